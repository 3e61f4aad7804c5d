"""Everything the programs of this image read from their environment; one class per program."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from seawall_service.feature_settings import FeatureSettings
from seawall_service.setting_types import (
    Bind,
    DatabaseUrl,
    Environment,
    JwtAlgorithm,
    LogLevel,
    LowerCase,
    Networks,
    Origins,
    RedisUrl,
    SecretFile,
)
from seawall_service.worker_count import default_worker_count

DRAIN_MARGIN_SECONDS = 5


def drain_seconds(graceful_timeout: int) -> int:
    """What uvicorn gets to finish requests; the rest of the grace period is for closing the pool."""
    return max(1, graceful_timeout - DRAIN_MARGIN_SECONDS)


class LogSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=False)

    log_level: LogLevel = Field("info", alias="LOG_LEVEL", description="debug, info, warning, error or critical")
    debug: bool = Field(default=False, alias="DEBUG", description="true prints logs for people instead of JSON lines")


class EnvironmentSettings(LogSettings):
    app_env: Annotated[Environment, LowerCase] | None = Field(
        None,
        alias="APP_ENV",
        description="dev (default), test, staging or production; production refuses weak settings",
    )
    env: Annotated[Environment, LowerCase] | None = Field(None, alias="ENV", description="an alias of APP_ENV")

    @property
    def environment(self) -> Environment:
        return self.app_env or self.env or Environment.DEV

    @property
    def is_production(self) -> bool:
        return self.environment in {Environment.PROD, Environment.PRODUCTION}


class Settings(FeatureSettings, EnvironmentSettings):
    """What the API and the auth gateway read."""

    require_authenticated_principal: bool = Field(
        default=False,
        alias="REQUIRE_AUTHENTICATED_PRINCIPAL",
        description="true refuses requests without X-Principal-Id",
    )
    database_url: DatabaseUrl = Field(
        alias="DATABASE_URL", description="postgresql://role@host:5432/database, without a password"
    )
    database_password: SecretFile = Field(
        None,
        alias="DATABASE_PASSWORD_FILE",
        description="the file that holds the password of the role in DATABASE_URL",
    )
    app_db_role: str = Field(
        "seawall_app",
        alias="APP_DB_ROLE",
        min_length=1,
        description="the only role the service may run as in production",
    )
    db_pool_size: PositiveInt = Field(5, alias="DB_POOL_SIZE", le=1_000, description="connections each worker keeps open")
    db_max_overflow: PositiveInt = Field(
        10, alias="DB_MAX_OVERFLOW", le=1_000, description="connections each worker may open above DB_POOL_SIZE"
    )
    redis_url: RedisUrl = Field("", alias="REDIS_URL", description="redis://user@host:6379/0; empty means no cache")
    redis_password: SecretFile = Field(
        None,
        alias="REDIS_PASSWORD_FILE",
        description="the file that holds the password of the user in REDIS_URL",
    )
    cors_origins: Origins = Field((), alias="CORS_ORIGINS", description="comma list of the origins whose pages may call the API")
    forwarded_allow_ips: Networks = Field(
        ("127.0.0.1",),
        alias="FORWARDED_ALLOW_IPS",
        description="comma list of the proxies that are believed; a unix socket's peer always is",
    )
    max_request_body_size_bytes: PositiveInt = Field(
        1_048_576, alias="MAX_REQUEST_BODY_SIZE_BYTES", le=1_073_741_824, description="larger request bodies get 413"
    )
    metrics_enabled: bool = Field(default=False, alias="METRICS_ENABLED", description="true serves GET /metrics")
    prometheus_multiproc_dir: Path | None = Field(
        None,
        alias="PROMETHEUS_MULTIPROC_DIR",
        description="a writable directory in memory, shared by the workers",
    )
    jwt_algorithm: JwtAlgorithm = Field(
        "HS256",
        alias="JWT_ALGORITHM",
        description="how access tokens are signed: HS, RS or ES with 256, 384 or 512, or EdDSA",
    )
    jwt_secret: SecretFile = Field(
        None,
        alias="JWT_SECRET_FILE",
        description="the file that holds the key of the access tokens (auth gateway only)",
    )
    access_token_ttl_seconds: PositiveInt = Field(
        900,
        alias="ACCESS_TOKEN_TTL_SECONDS",
        le=43_200,
        description="how long an access token is valid, in seconds; at most 43200",
    )
    refresh_token_ttl_seconds: PositiveInt = Field(
        1_209_600, alias="REFRESH_TOKEN_TTL_SECONDS", le=31_536_000, description="how long an unused refresh token is valid"
    )
    password_hash_concurrency: PositiveInt = Field(
        2, alias="PASSWORD_HASH_CONCURRENCY", le=64, description="passwords each worker checks at once (19 MiB each)"
    )
    bind: Bind = Field(
        "0.0.0.0:8000",
        alias="SEAWALL_BIND",
        description="host:port or unix:/path/of.sock",
    )
    release: str = Field(
        "", alias="SEAWALL_RELEASE", description="the image reference, logged at the start and shown by /api/v1/activity"
    )
    colour: str = Field(
        "",
        alias="SEAWALL_COLOUR",
        description="blue or green, logged at the start, told to the database and shown by /api/v1/activity",
    )
    web_concurrency: PositiveInt = Field(
        default_factory=default_worker_count,
        alias="WEB_CONCURRENCY",
        description="workers; unset means as many as CPUs, at least 2 and at most 4",
    )
    gunicorn_timeout: PositiveInt = Field(
        60,
        alias="GUNICORN_TIMEOUT",
        le=3_600,
        description="seconds after which a worker that stopped reacting is replaced",
    )
    gunicorn_graceful_timeout: PositiveInt = Field(
        30,
        alias="GUNICORN_GRACEFUL_TIMEOUT",
        le=3_600,
        description="seconds between SIGTERM and the end of every worker",
    )
    gunicorn_keepalive: PositiveInt = Field(
        5,
        alias="GUNICORN_KEEPALIVE",
        le=3_600,
        description="seconds an idle connection stays open; the edge's must be shorter",
    )
    gunicorn_log_level: LogLevel = Field(
        "info", alias="GUNICORN_LOG_LEVEL", description="debug, info, warning, error or critical"
    )
    request_timeout_seconds: PositiveFloat | None = Field(
        None,
        alias="REQUEST_TIMEOUT_SECONDS",
        ge=0.1,
        le=3_600,
        description="an answer that starts later is 504; unset means GUNICORN_TIMEOUT",
    )

    @property
    def request_timeout(self) -> float:
        return self.request_timeout_seconds or float(self.gunicorn_timeout)

    @property
    def drain_seconds(self) -> int:
        return drain_seconds(self.gunicorn_graceful_timeout)

    @property
    def binds_unix_socket(self) -> bool:
        return self.bind.startswith("unix:")


class MigrationSettings(EnvironmentSettings):
    """What `python -m seawall_service.migrate` reads."""

    database_url: DatabaseUrl = Field(
        alias="MIGRATION_DATABASE_URL",
        description="postgresql://role@host:5432/database of the migrating role",
    )
    database_password: SecretFile = Field(
        None,
        alias="MIGRATION_DATABASE_PASSWORD_FILE",
        description="the file that holds the migrating role's password",
    )
    lock_wait_seconds: PositiveFloat = Field(
        300,
        alias="MIGRATION_LOCK_WAIT_SECONDS",
        description="how long to wait for another migration or a backup",
    )
    connect_wait_seconds: PositiveFloat = Field(
        15, alias="MIGRATION_CONNECT_WAIT_SECONDS", description="how long to wait for the database to answer"
    )


class FirstUserSettings(BaseSettings):
    """What `python -m seawall_service.users.first_user` reads besides the database settings."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    name: str = Field(alias="FIRST_USER_NAME", description="the name of the first user")
    password: SecretFile = Field(
        None, alias="FIRST_USER_PASSWORD_FILE", description="the file that holds the first user's password"
    )
