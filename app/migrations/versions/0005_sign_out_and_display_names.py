"""Sessions that were ended before their access tokens, and the names that users give themselves."""

from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    # No foreign key: the family's refresh tokens may be gone before the last of its access tokens.
    op.execute("""
        CREATE TABLE app.state_revoked_sessions (
          session_id uuid        PRIMARY KEY,
          expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX state_revoked_sessions_expiry ON app.state_revoked_sessions (expires_at)")
    # Defaults, so that the release before this one can still add users.
    op.execute("""
        ALTER TABLE app.proj_users
          ADD COLUMN display_name text,
          ADD COLUMN version      integer NOT NULL DEFAULT 1
    """)
