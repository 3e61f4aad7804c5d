"""The types of settings: each checks one form of value, and its message says what form that is."""

import re
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

REDIS_URL = re.compile(r"rediss?://[^\s/?#]+(/\d+)?")
UNIX_BIND = re.compile(r"unix:/\S+")
TCP_BIND = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):\d{1,5}")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
IPV4 = re.compile(r"\d+(\.\d+){3}")
ORIGIN = re.compile(r"https?://[^\s/?#@]+")


class Environment(StrEnum):
    DEV = "dev"
    DEVELOPMENT = "development"
    TEST = "test"
    STAGING = "staging"
    PROD = "prod"
    PRODUCTION = "production"


def lowered(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def secret_file(value: object) -> object:
    """The variable holds a path; the setting holds what the file contains."""
    if not isinstance(value, str):
        return value
    if not value:
        return None
    try:
        content = Path(value).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"the file {value} cannot be read ({reason})") from error
    if not content:
        raise ValueError(f"the file {value} is empty")
    return content


def database_url(value: str) -> str:
    url = value.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        whole = url.startswith("postgresql://") and "dbname" in conninfo_to_dict(url)
    except ProgrammingError:
        # Not told: libpq's sentence repeats the URL, which may carry a password.
        whole = False
    if not whole:
        raise ValueError("not of the form postgresql://role@host:5432/database")
    return url


def redis_url(value: str) -> str:
    if value and not REDIS_URL.fullmatch(value):
        raise ValueError("not of the form redis://user@host:6379/0")
    return value


def checked_bind(value: str) -> str:
    if not (UNIX_BIND.fullmatch(value) or TCP_BIND.fullmatch(value)):
        raise ValueError("neither unix:/path/of.sock nor host:port")
    return value


def origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value != "*" and not ORIGIN.fullmatch(value):
            raise ValueError(f"{value!r} is no origin such as https://example.org")
    return values


def networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value == "*":
            continue
        network = ip_network(value, strict=False)
        # gunicorn takes no others, and would end without naming the variable.
        if ip_address(value.partition("/")[0]) != network.network_address:
            raise ValueError(f"{value} is an address in a network: write {network}, or the address alone")
    return values


def bucket_name(value: str) -> str:
    """The rules of S3's general purpose buckets."""
    if not BUCKET.fullmatch(value) or ".." in value or value.startswith("xn--") or IPV4.fullmatch(value):
        raise ValueError("no bucket name: 3 to 63 small letters, digits, dots and hyphens, and no address")
    return value


DatabaseUrl = Annotated[str, AfterValidator(database_url)]
RedisUrl = Annotated[str, AfterValidator(redis_url)]
SecretFile = Annotated[SecretStr | None, BeforeValidator(secret_file)]
LowerCase = BeforeValidator(lowered)
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], LowerCase]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_list)]
Origins = Annotated[CommaList, AfterValidator(origins)]
Networks = Annotated[CommaList, AfterValidator(networks)]
Bind = Annotated[str, AfterValidator(checked_bind)]
JwtAlgorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"]
BucketName = Annotated[str, AfterValidator(bucket_name)]
