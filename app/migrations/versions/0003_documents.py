"""Documents, who may see them, and their entries."""

from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE app.entries_document (
          id          uuid        PRIMARY KEY,
          document_id uuid        NOT NULL,
          position    integer     NOT NULL CHECK (position > 0),
          author_id   uuid        NOT NULL,
          content     text        NOT NULL,
          created_at  timestamptz NOT NULL DEFAULT now(),
          UNIQUE (document_id, position)
        )
    """)
    # User ids carry no foreign key: a principal may come from a verifier of the operator's own.
    op.execute("""
        CREATE TABLE app.proj_documents (
          id          uuid        PRIMARY KEY,
          title       text        NOT NULL,
          owner_id    uuid        NOT NULL,
          version     integer     NOT NULL,
          entry_count integer     NOT NULL,
          created_at  timestamptz NOT NULL DEFAULT now(),
          updated_at  timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE app.proj_memberships (
          user_id     uuid        NOT NULL,
          document_id uuid        NOT NULL REFERENCES app.proj_documents ON DELETE CASCADE,
          role        text        NOT NULL CHECK (role IN ('owner', 'member')),
          added_at    timestamptz NOT NULL DEFAULT now(),
          PRIMARY KEY (user_id, document_id)
        )
    """)
    op.execute("CREATE INDEX proj_memberships_document ON app.proj_memberships (document_id)")
    op.execute("CREATE INDEX proj_memberships_listing ON app.proj_memberships (user_id, added_at, document_id)")
