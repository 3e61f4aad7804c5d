"""Users, and the refresh tokens they hold."""

from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE app.proj_users (
          id            uuid        PRIMARY KEY,
          username      text        NOT NULL UNIQUE CHECK (username = lower(username)),
          password_hash text        NOT NULL,
          created_at    timestamptz NOT NULL DEFAULT now(),
          disabled_at   timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE app.state_refresh_tokens (
          token_digest bytea       PRIMARY KEY,
          family_id    uuid        NOT NULL,
          user_id      uuid        NOT NULL REFERENCES app.proj_users ON DELETE CASCADE,
          issued_at    timestamptz NOT NULL DEFAULT now(),
          expires_at   timestamptz NOT NULL,
          used_at      timestamptz,
          revoked_at   timestamptz
        )
    """)
    op.execute("CREATE INDEX state_refresh_tokens_family ON app.state_refresh_tokens (family_id)")
    op.execute("CREATE INDEX state_refresh_tokens_user ON app.state_refresh_tokens (user_id)")
    op.execute("CREATE INDEX state_refresh_tokens_expiry ON app.state_refresh_tokens (expires_at)")
