"""Refuses to start on bad settings: every reason at once, each with the variable and what to do."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from seawall_service.errors import SeawallError
from seawall_service.otel.endpoints import Signal
from seawall_service.security.peer import plain_network
from seawall_service.security.signing_key import MIN_DISTINCT_CHARACTERS, UnfitKeyError, cure_for, load_signing_key
from seawall_service.settings import EnvironmentSettings, MigrationSettings, Settings

EXIT_REFUSED = 78  # EX_CONFIG of sysexits.h: a supervisor can tell a refusal from a crash
# Without a user or a password, which the refusal and the exporter's own warnings would show.
HTTP_URL = re.compile(r"https?://[A-Za-z0-9_.:\[\]-]+(/[^\s?#]*)?")
OTLP_PROTOCOL = "http/protobuf"
MAX_REQUESTS_PER_SECOND = 1_000
MAX_DEGRADED_SECONDS = 300
MIN_PASSWORD = 16
# Two of /1 are everybody, and nobody has proxies in a whole /7.
WIDEST_PROXY_NETWORK = 8

# For what has no default. Nobody connects to it.
STAND_INS = {"DATABASE_URL": "postgresql://nobody@127.0.0.1/none"}

Component = Literal["api", "auth", "command"]


@dataclass(frozen=True, slots=True)
class Refusal:
    variable: str
    problem: str
    cure: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.problem}. {self.cure}"


class StartupRefused(SeawallError):
    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__(" ".join(str(refusal) for refusal in self.refusals))


def read[T: BaseSettings](model: type[T]) -> T:
    """From the environment."""
    return model()


def parse[T: BaseSettings](model: type[T]) -> T:
    try:
        return read(model)
    except ValidationError as error:
        raise StartupRefused(refusals_of(error, model)) from None


def refusals_of(error: ValidationError, model: type[BaseSettings]) -> Iterator[Refusal]:
    descriptions = {field.alias: field.description for field in model.model_fields.values()}
    seen = set()
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        variable = str(item["loc"][0]) if item["loc"] else "environment"
        if variable not in seen:
            seen.add(variable)
            problem = "is not set" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
            yield Refusal(variable, problem, f"Expected: {descriptions.get(variable)}")


def load_settings(component: Component) -> Settings:
    refusals: list[Refusal] = []
    try:
        settings = read(Settings)
    except ValidationError as error:
        refusals = list(refusals_of(error, Settings))
        try:
            settings = without({refusal.variable for refusal in refusals})
        except ValidationError:
            raise StartupRefused(refusals) from None
    known = {refusal.variable for refusal in refusals}
    refusals += [found for check in CHECKS for found in check(settings, component) if found.variable not in known]
    if refusals:
        raise StartupRefused(refusals)
    return settings


def without(variables: set[str]) -> Settings:
    """What can be read beside these, so that the checks that come later can say what else is wrong."""
    environment = dict(os.environ)
    try:
        for variable in variables:
            os.environ.pop(variable, None)
        os.environ |= {name: stand_in for name, stand_in in STAND_INS.items() if name in variables}
        return read(Settings)
    finally:
        os.environ.clear()
        os.environ |= environment


def load_migration_settings() -> MigrationSettings:
    settings = parse(MigrationSettings)
    refusals = list(environment_names_agree(settings, "command"))
    if settings.is_production:
        refusals += password_in("MIGRATION_DATABASE_URL", conninfo_to_dict(settings.database_url).get("password"))
    if refusals:
        raise StartupRefused(refusals)
    return settings


def environment_names_agree(settings: EnvironmentSettings, _: Component) -> Iterator[Refusal]:
    if settings.app_env and settings.env and settings.app_env != settings.env:
        yield Refusal("ENV", f"says {settings.env} while APP_ENV says {settings.app_env}", "Set only APP_ENV")


def authentication_is_required(settings: Settings, component: Component) -> Iterator[Refusal]:
    if settings.is_production and component != "command" and not settings.require_authenticated_principal:
        yield Refusal(
            "REQUIRE_AUTHENTICATED_PRINCIPAL",
            "is false, so anybody could act as the system",
            "Set REQUIRE_AUTHENTICATED_PRINCIPAL=true, or APP_ENV to another environment",
        )


def database_role_is_the_application(settings: Settings, _: Component) -> Iterator[Refusal]:
    role = conninfo_to_dict(settings.database_url).get("user")
    if settings.is_production and role != settings.app_db_role:
        yield Refusal(
            "DATABASE_URL",
            f"logs in as {role or 'whoever runs the service'}, which is not the application role {settings.app_db_role}",
            f"Use postgresql://{settings.app_db_role}@… there; owners and migrators belong in MIGRATION_DATABASE_URL",
        )


def urls_hold_no_password(settings: Settings, _: Component) -> Iterator[Refusal]:
    if settings.is_production:
        yield from password_in("DATABASE_URL", conninfo_to_dict(settings.database_url).get("password"))
        yield from password_in("REDIS_URL", urlsplit(settings.redis_url).password)


def passwords_are_real(settings: Settings, component: Component) -> Iterator[Refusal]:
    if not settings.is_production or component == "command":
        return
    secrets = [("DATABASE_PASSWORD_FILE", settings.database_password)]
    if settings.redis_url:
        secrets.append(("REDIS_PASSWORD_FILE", settings.redis_password))
    for variable, secret in secrets:
        cure = "Put a random one into a file, such as that of: openssl rand -hex 24"
        if secret is None:
            yield Refusal(variable, "is not set, so anybody who reaches the server could be this service", cure)
        elif len(secret.get_secret_value()) < MIN_PASSWORD:
            yield Refusal(variable, f"holds fewer than {MIN_PASSWORD} characters, which can be guessed", cure)
        elif len(set(secret.get_secret_value())) < MIN_DISTINCT_CHARACTERS:
            yield Refusal(variable, f"has fewer than {MIN_DISTINCT_CHARACTERS} different characters, which can be guessed", cure)


def password_in(variable: str, password: object) -> Iterator[Refusal]:
    if password:
        cure = variable.replace("_URL", "_PASSWORD_FILE")
        yield Refusal(variable, "carries a password, which `docker inspect` shows", f"Move it to a file and set {cure}")


def cors_is_explicit(settings: Settings, component: Component) -> Iterator[Refusal]:
    if not settings.is_production or component == "command":
        return
    cure = "List the origins of your pages, such as CORS_ORIGINS=https://example.org"
    if not settings.cors_origins:
        yield Refusal("CORS_ORIGINS", "is empty", cure)
    if "*" in settings.cors_origins:
        yield Refusal("CORS_ORIGINS", "allows every origin", cure)


def socket_origins_are_explicit(settings: Settings, component: Component) -> Iterator[Refusal]:
    """Only with the limits on: what is switched off is told by a warning, as every protection."""
    if settings.is_production and component == "api" and settings.ws_limits_enabled and "*" in settings.ws_allowed_origins:
        yield Refusal(
            "WS_ALLOWED_ORIGINS",
            "lets pages of every origin open sockets",
            "List the origins of your pages, as in CORS_ORIGINS, or set WS_LIMITS_ENABLED=false",
        )


def proxies_are_named(settings: Settings, component: Component) -> Iterator[Refusal]:
    if not settings.is_production or component == "command" or settings.binds_unix_socket:
        return
    for entry in settings.forwarded_allow_ips:
        if entry == "*" or plain_network(entry).prefixlen < WIDEST_PROXY_NETWORK:
            yield Refusal(
                "FORWARDED_ALLOW_IPS",
                f"believes everybody ({entry}), so whoever reaches the port could act as any user",
                "List the addresses of the edge, or bind a unix socket",
            )


def signing_key_fits(settings: Settings, component: Component) -> Iterator[Refusal]:
    if component != "auth":
        return
    if settings.jwt_secret is None:
        cure = cure_for(settings.jwt_algorithm)
        yield Refusal("JWT_SECRET_FILE", "is not set, and the auth gateway signs access tokens with it", cure)
        return
    try:
        load_signing_key(settings.jwt_algorithm, settings.jwt_secret.get_secret_value())
    except UnfitKeyError as error:
        yield Refusal("JWT_SECRET_FILE", str(error), error.cure)


def issuer_is_whole(settings: Settings, component: Component) -> Iterator[Refusal]:
    if component != "auth":
        return
    if settings.oidc_jwks_url and not settings.oidc_issuer:
        yield Refusal("OIDC_ISSUER", "is not set, while OIDC_JWKS_URL is", "Set it to what the tokens name in `iss`")
    if settings.oidc_issuer and not settings.oidc_audience:
        cure = "Set it to what tokens for this service name in `aud`"
        yield Refusal("OIDC_AUDIENCE", "is not set, so tokens for any other service would be taken", cure)
    needed = ("https",) if settings.is_production else ("https", "http")
    for variable, url in (("OIDC_ISSUER", settings.oidc_issuer), ("OIDC_JWKS_URL", settings.oidc_jwks_url)):
        parts = urlsplit(url)
        if url and (parts.scheme not in needed or not parts.hostname):
            yield Refusal(variable, "is no https:// address, so whoever is on the way could sign tokens", "Use https://…")


def shared_features_have_a_server(settings: Settings, component: Component) -> Iterator[Refusal]:
    if not settings.is_production or component == "command" or settings.redis_url:
        return
    for variable, enabled in (("RATE_LIMIT_ENABLED", settings.rate_limit_enabled), ("CACHE_ENABLED", settings.cache_enabled)):
        if enabled:
            cure = f"Set REDIS_URL=redis://user@host:6379/0, or {variable}=false"
            yield Refusal("REDIS_URL", f"is not set, while {variable}=true needs what all workers share", cure)


def limits_limit(settings: Settings, component: Component) -> Iterator[Refusal]:
    """A limit that nobody can reach would pass for one."""
    if not settings.is_production or component == "command" or not settings.rate_limit_enabled:
        return
    for variable, requests, seconds in (
        ("RATE_LIMIT_REQUESTS", settings.rate_limit_requests, settings.rate_limit_window_seconds),
        ("RATE_LIMIT_PER_MINUTE_DEFAULT", settings.rate_limit_per_minute_default, 60),
        ("RATE_LIMIT_BURST_DEFAULT", settings.rate_limit_burst_default, 1),
    ):
        if requests > MAX_REQUESTS_PER_SECOND * seconds:
            cure = f"Set at most {MAX_REQUESTS_PER_SECOND * seconds}, or RATE_LIMIT_ENABLED=false"
            yield Refusal(variable, f"allows one client more than {MAX_REQUESTS_PER_SECOND} requests a second", cure)
    if settings.rate_limit_degraded_seconds > MAX_DEGRADED_SECONDS:
        yield Refusal(
            "RATE_LIMIT_DEGRADED_SECONDS",
            "would let every worker count for itself for long after REDIS_URL is back",
            f"Set at most {MAX_DEGRADED_SECONDS}",
        )


def metrics_sum_over_workers(settings: Settings, component: Component) -> Iterator[Refusal]:
    if not settings.metrics_enabled or component == "command":
        return
    directory = settings.prometheus_multiproc_dir
    cure = "Mount a tmpfs for this user there, or set METRICS_ENABLED=false"
    if directory is None and settings.web_concurrency > 1:
        yield Refusal("PROMETHEUS_MULTIPROC_DIR", "is not set, so each scrape would see one worker of several", cure)
    elif directory is not None and not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        yield Refusal("PROMETHEUS_MULTIPROC_DIR", f"{directory} is no writable directory", cure)


def collector_has_an_address(settings: Settings, _: Component) -> Iterator[Refusal]:
    for variable, value in (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", settings.otel_endpoint),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", settings.otel_traces_endpoint),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", settings.otel_logs_endpoint),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", settings.otel_metrics_endpoint),
    ):
        if value and not HTTP_URL.fullmatch(value):
            yield Refusal(variable, "is no address of a collector", "Set it to one such as http://collector:4318")


def collector_is_spoken_to(settings: Settings, _: Component) -> Iterator[Refusal]:
    """The exporters of this image speak one protocol: asked for gRPC, they would send HTTP in silence."""
    if settings.otel_exporter != "otlp":
        return
    signals: dict[Signal, bool] = {"traces": True, "logs": settings.otel_logs, "metrics": settings.otel_metrics}
    asked = dict.fromkeys(settings.otlp_protocol(signal) for signal, sent in signals.items() if sent)
    for protocol, variable in asked:
        if protocol != OTLP_PROTOCOL:
            cure = f"Set {variable}={OTLP_PROTOCOL} and the collector's address for it, usually port 4318"
            yield Refusal(variable, f"says {protocol}, which is not spoken here", cure)


CHECKS: tuple[Callable[[Settings, Component], Iterator[Refusal]], ...] = (
    environment_names_agree,
    authentication_is_required,
    database_role_is_the_application,
    urls_hold_no_password,
    passwords_are_real,
    cors_is_explicit,
    socket_origins_are_explicit,
    proxies_are_named,
    signing_key_fits,
    issuer_is_whole,
    shared_features_have_a_server,
    limits_limit,
    metrics_sum_over_workers,
    collector_has_an_address,
    collector_is_spoken_to,
)


def exit_refused(refused: StartupRefused) -> NoReturn:
    """One JSON line per reason on stderr, written without the log configuration, which may be what is wrong."""
    for refusal in refused.refusals:
        line = {"level": "critical", "event": "startup.refused"} | asdict(refusal)
        sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stderr.flush()
    raise SystemExit(EXIT_REFUSED)
