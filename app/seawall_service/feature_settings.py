"""Settings of what can be switched on: all off, and harmless, unless the environment says otherwise (CFG-04)."""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings

from seawall_service.otel.endpoints import Signal, build_otlp_endpoint
from seawall_service.setting_types import BucketName, LowerCase, Origins

Share = Annotated[float, Field(ge=0, le=1)]
OtlpProtocol = Annotated[str, LowerCase]
Prefix = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_.:-]+$")]


class RateLimitSettings(BaseSettings):
    rate_limit_enabled: bool = Field(
        default=False, alias="RATE_LIMIT_ENABLED", description="true limits requests to /api/ and sockets; needs REDIS_URL"
    )
    rate_limit_requests: PositiveInt = Field(
        60, alias="RATE_LIMIT_REQUESTS", le=1_000_000, description="requests of one client in a window, over the whole API"
    )
    rate_limit_window_seconds: PositiveInt = Field(
        60, alias="RATE_LIMIT_WINDOW_SECONDS", le=86_400, description="length of that window, in seconds"
    )
    rate_limit_key_strategy: Annotated[Literal["ip", "user_or_ip"], LowerCase] = Field(
        "ip",
        alias="RATE_LIMIT_KEY_STRATEGY",
        description="who a client is: ip (its address) or user_or_ip (its user, where known)",
    )
    rate_limit_prefix: Prefix = Field("rl:", alias="RATE_LIMIT_PREFIX", description="how the limiter's keys begin")
    rate_limit_per_minute_default: PositiveInt = Field(
        120,
        alias="RATE_LIMIT_PER_MINUTE_DEFAULT",
        le=1_000_000,
        description="requests of one client to one route, refilled in a minute",
    )
    rate_limit_burst_default: PositiveInt = Field(
        30,
        alias="RATE_LIMIT_BURST_DEFAULT",
        le=1_000_000,
        description="requests of one client to one route that may come at once",
    )
    rate_limit_degraded_seconds: NonNegativeInt = Field(
        5,
        alias="RATE_LIMIT_DEGRADED_SECONDS",
        description="seconds that the limiter counts in memory after REDIS_URL failed",
    )


class CacheSettings(BaseSettings):
    cache_enabled: bool = Field(
        default=False, alias="CACHE_ENABLED", description="true keeps answers that many ask for in REDIS_URL for a short time"
    )
    cache_default_ttl_seconds: PositiveInt = Field(
        300, alias="CACHE_DEFAULT_TTL_SECONDS", description="how long at the most, in seconds"
    )
    cache_prefix: Prefix = Field("cache:", alias="CACHE_PREFIX", description="how the cache's keys begin")


class TelemetrySettings(BaseSettings):
    telemetry_mode: Annotated[Literal["noop", "log"], LowerCase] = Field(
        "noop", alias="TELEMETRY_MODE", description="log writes counters and durations of requests as log lines; noop does not"
    )
    telemetry_sample_rate: Share = Field(
        1.0, alias="TELEMETRY_SAMPLE_RATE", description="share of the requests that TELEMETRY_MODE=log writes, 0 to 1"
    )
    otel_exporter: Annotated[Literal["none", "console", "otlp"], LowerCase] = Field(
        "none", alias="OTEL_EXPORTER", description="where spans go: none, console (stderr) or otlp (OTEL_EXPORTER_OTLP_ENDPOINT)"
    )
    otel_endpoint: str = Field(
        "",
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="address of the collector; /v1/traces, /v1/logs and /v1/metrics are appended",
    )
    otel_traces_endpoint: str = Field(
        "", alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", description="the whole address for spans, where it differs"
    )
    otel_logs_endpoint: str = Field(
        "", alias="OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", description="the whole address for log records, where it differs"
    )
    otel_metrics_endpoint: str = Field(
        "", alias="OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", description="the whole address for metrics, where it differs"
    )
    otel_protocol: OtlpProtocol = Field(
        "http/protobuf",
        alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        description="http/protobuf, the only one that is spoken: give the collector's address for that, usually port 4318",
    )
    otel_traces_protocol: OtlpProtocol = Field(
        "", alias="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", description="the same for spans, where it differs"
    )
    otel_logs_protocol: OtlpProtocol = Field(
        "", alias="OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", description="the same for log records, where it differs"
    )
    otel_metrics_protocol: OtlpProtocol = Field(
        "", alias="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", description="the same for metrics, where it differs"
    )
    otel_logs: bool = Field(default=False, alias="OTEL_LOGS", description="true sends log lines to the collector as well")
    otel_metrics: bool = Field(default=False, alias="OTEL_METRICS", description="true sends metrics to the collector as well")
    otel_sample_rate: Share = Field(
        1.0, alias="OTEL_SAMPLE_RATE", description="share of the traces that are exported, 0 to 1; all get an id"
    )
    otel_service_name: str = Field(
        "", alias="OTEL_SERVICE_NAME", description="service.name of spans; unset: seawall-api, seawall-auth"
    )

    def otlp_protocol(self, signal: Signal) -> tuple[str, str]:
        """What a signal would be sent in, and the variable that says so."""
        own = {"traces": self.otel_traces_protocol, "logs": self.otel_logs_protocol, "metrics": self.otel_metrics_protocol}
        name = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
        return (own[signal], name) if own[signal] else (self.otel_protocol, "OTEL_EXPORTER_OTLP_PROTOCOL")

    def otlp_endpoint(self, signal: Signal) -> str:
        """Where a signal is sent; empty when nothing says so."""
        whole = {"traces": self.otel_traces_endpoint, "logs": self.otel_logs_endpoint, "metrics": self.otel_metrics_endpoint}
        return whole[signal] or build_otlp_endpoint(self.otel_endpoint, signal)


class WebSocketSettings(BaseSettings):
    ws_limits_enabled: bool = Field(default=False, alias="WS_LIMITS_ENABLED", description="true applies the limits below")
    ws_max_sockets_per_user: PositiveInt = Field(
        3, alias="WS_MAX_SOCKETS_PER_USER", le=1_000_000, description="open sockets of one user"
    )
    ws_max_sockets_per_room: PositiveInt = Field(
        100,
        alias="WS_MAX_SOCKETS_PER_ROOM",
        le=1_000_000,
        validation_alias=AliasChoices("WS_MAX_SOCKETS_PER_ROOM", "WS_MAX_SOCKETS_PER_DRAFT"),
        description="open sockets on one document (also read from WS_MAX_SOCKETS_PER_DRAFT)",
    )
    ws_max_sockets_global: PositiveInt = Field(
        1000, alias="WS_MAX_SOCKETS_GLOBAL", le=1_000_000, description="open sockets altogether"
    )
    ws_max_message_bytes: PositiveInt = Field(
        4096, alias="WS_MAX_MESSAGE_BYTES", le=65_535, description="size of a message from a client, in bytes; at most 65535"
    )
    ws_send_queue: PositiveInt = Field(
        64, alias="WS_SEND_QUEUE", le=10_000, description="messages that wait for one slow socket before it is closed"
    )
    ws_allowed_origins: Origins = Field(
        ("*",), alias="WS_ALLOWED_ORIGINS", description="comma list of the origins whose pages may open sockets; * is everybody"
    )


class AuditSettings(BaseSettings):
    audit_enabled: bool = Field(
        default=False, alias="AUDIT_ENABLED", description="true writes who changed what to audit_events, in the same transaction"
    )
    audit_sample_rate: Share = Field(1.0, alias="AUDIT_SAMPLE_RATE", description="share of the changes that are written, 0 to 1")


class IssuerSettings(BaseSettings):
    oidc_issuer: str = Field(
        "",
        alias="OIDC_ISSUER",
        description="an issuer whose access tokens are taken beside our own, such as https://id.example.org",
    )
    oidc_audience: str = Field("", alias="OIDC_AUDIENCE", description="the audience that those tokens must name")
    oidc_jwks_url: str = Field(
        "", alias="OIDC_JWKS_URL", description="where its public keys are; unset asks its discovery document"
    )
    oidc_cache_seconds: PositiveFloat = Field(
        300, alias="OIDC_CACHE_SECONDS", le=86_400, description="how long they are kept, in seconds"
    )


class ProductSettings(BaseSettings):
    """How a product on top of this service adds settings of its own: typed, checked by pattern, optional (CFG-02)."""

    primary_model: str | None = Field(
        None,
        alias="PRIMARY_MODEL",
        pattern=r"^[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.:-]*$",
        description="a product's setting, for example: provider/name",
    )
    base_currency: str | None = Field(
        None,
        alias="BASE_CURRENCY",
        pattern=r"^[A-Z]{3}$",
        description="a product's setting, for example: a currency of ISO 4217",
    )
    s3_bucket: BucketName | None = Field(None, alias="S3_BUCKET", description="a product's setting, for example: a bucket's name")


class FeatureSettings(
    RateLimitSettings,
    CacheSettings,
    TelemetrySettings,
    WebSocketSettings,
    AuditSettings,
    IssuerSettings,
    ProductSettings,
):
    openapi_enabled: bool = Field(
        default=False,
        alias="OPENAPI_ENABLED",
        description="true serves /openapi.json in production too",
    )
