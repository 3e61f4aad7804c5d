"""The append-only event store and the stored results of commands that carried an Idempotency-Key."""

from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE app.events (
          position       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          stream_id      uuid        NOT NULL,
          stream_version integer     NOT NULL CHECK (stream_version > 0),
          type           text        NOT NULL,
          payload        jsonb       NOT NULL,
          principal_id   uuid        NOT NULL,
          occurred_at    timestamptz NOT NULL DEFAULT now(),
          UNIQUE (stream_id, stream_version)
        )
    """)
    op.execute("""
        CREATE TABLE app.state_idempotency (
          principal_id   uuid        NOT NULL,
          key            text        NOT NULL,
          request_digest bytea       NOT NULL,
          response       jsonb,
          created_at     timestamptz NOT NULL DEFAULT now(),
          expires_at     timestamptz NOT NULL,
          PRIMARY KEY (principal_id, key)
        )
    """)
    op.execute("CREATE INDEX state_idempotency_expiry ON app.state_idempotency (expires_at)")
