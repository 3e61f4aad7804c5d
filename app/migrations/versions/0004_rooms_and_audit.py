"""Roles of members, the request that caused an event, and the audit trail."""

from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE app.proj_memberships DROP CONSTRAINT proj_memberships_role_check")
    op.execute("UPDATE app.proj_memberships SET role = 'editor' WHERE role = 'member'")
    op.execute("""
        ALTER TABLE app.proj_memberships
          ADD CONSTRAINT proj_memberships_role_check CHECK (role IN ('owner', 'editor', 'viewer'))
    """)
    op.execute("CREATE UNIQUE INDEX proj_memberships_one_owner ON app.proj_memberships (document_id) WHERE role = 'owner'")
    # Null where the release before this one wrote it.
    op.execute("ALTER TABLE app.events ADD COLUMN request_id text")
    # The lengths are the service's own limits once more: what a client sends must not be able to grow this table.
    op.execute("""
        CREATE TABLE app.audit_events (
          id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          ts          timestamptz NOT NULL DEFAULT now(),
          request_id  text        NOT NULL CHECK (char_length(request_id) <= 128),
          user_id     uuid        NOT NULL,
          action      text        NOT NULL CHECK (action ~ '^[a-z_]+[.][a-z_]+$'),
          document_id uuid,
          metadata    jsonb       NOT NULL DEFAULT '{}' CHECK (octet_length(metadata::text) <= 4096),
          ip          inet,
          user_agent  text        CHECK (char_length(user_agent) <= 256)
        )
    """)
    op.execute("CREATE INDEX audit_events_document ON app.audit_events (document_id, id)")
