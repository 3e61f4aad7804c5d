"""JSON lines, one per event, for our own loggers and for every foreign one."""

import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from typing import Any, TextIO
from uuid import UUID

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

SECRET_KEYS = ("authorization", "cookie", "password", "token", "secret", "api_key")
CONTENT_KEYS = ("content", "body")
REDACTED = "[redacted]"
MAX_TEXT = 2000
MAX_CONTENT = 64


def serialise(value: EventDict, **_: object) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Such as half of a surrogate pair. A log line must never be what fails a request.
        return json.dumps(value, default=str, skipkeys=True).encode()


def serialise_text(value: EventDict, **_: object) -> str:
    return serialise(value).decode()


def safe(key: str, value: object) -> object:
    """What may be written of a value: nothing under the name of a secret, however deep, and the beginning of a long text."""
    name = key.lower()
    if any(secret in name for secret in SECRET_KEYS):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(inner): safe(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [safe(key, item) for item in value]
    if isinstance(value, UUID):
        return str(value)
    limit = MAX_CONTENT if name in CONTENT_KEYS else MAX_TEXT
    if isinstance(value, str) and len(value) > limit and name != "exception":
        return f"{value[:limit]}… ({len(value)} characters)"
    return value


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: safe(key, value) for key, value in event.items()}


def build_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]


def select_renderer(*, debug: bool) -> Processor:
    if debug:
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer(serializer=serialise)


def foreign_logging(level: str, *, debug: bool, stream: str = "ext://sys.stdout") -> dict[str, Any]:
    """A dictConfig under which gunicorn, uvicorn, psycopg and the rest write the same lines as we do."""
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if debug else structlog.processors.JSONRenderer(serializer=serialise_text)
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        "foreign_pre_chain": [
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *build_processors(),
        ],
    }
    named = {"handlers": ["lines"], "propagate": False, "level": level.upper()}
    silent: dict[str, Any] = {"handlers": [], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": formatter},
        "handlers": {"lines": {"class": "logging.StreamHandler", "stream": stream, "formatter": "lines"}},
        "root": {"handlers": ["lines"], "level": level.upper()},
        "loggers": {
            "gunicorn.error": named,
            "uvicorn.error": named,
            # Our own context middleware writes the one access line.
            "gunicorn.access": silent,
            "uvicorn.access": silent,
        },
    }


def configure_logging(level: str = "info", *, debug: bool = False, stream: TextIO | None = None) -> None:
    """`stream` is stdout for the service; commands log to stderr, since their stdout is their result."""
    target = stream or sys.stdout
    name = "ext://sys.stderr" if target is sys.stderr else "ext://sys.stdout"
    logging.config.dictConfig(foreign_logging(level, debug=debug, stream=name))
    factory: Any = structlog.PrintLoggerFactory(target) if debug else structlog.BytesLoggerFactory(target.buffer)
    structlog.configure(
        processors=[*build_processors(), select_renderer(debug=debug)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
