"""JSON lines, one per event, for our own loggers and for every foreign one."""

import functools
import importlib
import inspect
import json
import logging
import logging.config
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast
from uuid import UUID

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

SECRET_KEYS = ("authorization", "cookie", "password", "token", "secret", "api_key")
CONTENT_KEYS = ("content", "body")
REDACTED = "[redacted]"
MAX_TEXT = 2000
MAX_CONTENT = 64

# Called with every line as it is written: after redaction, before it is rendered.
line_sinks: list[Callable[[EventDict], None]] = []


def serialise(value: EventDict, **_: object) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Such as half of a surrogate pair. A log line must never be what fails a request.
        return json.dumps(value, default=str, skipkeys=True).encode()


def serialise_text(value: EventDict, **_: object) -> str:
    return serialise(value).decode()


@functools.lru_cache(maxsize=4096)
def length_allowed(key: str) -> int:
    """How much of a text under this name may be written: 0 for a secret. Kept, since the names of fields are few."""
    name = key.lower()
    if any(secret in name for secret in SECRET_KEYS):
        return 0
    if name == "exception":
        return sys.maxsize
    return MAX_CONTENT if name in CONTENT_KEYS else MAX_TEXT


def safe(key: str, value: object) -> object:
    """What may be written of a value: nothing under the name of a secret, however deep, and the beginning of a long text."""
    allowed = length_allowed(key)
    if allowed == 0:
        return REDACTED
    if isinstance(value, str):
        return value if len(value) <= allowed else f"{value[:allowed]}… ({len(value)} characters)"
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(inner): safe(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [safe(key, item) for item in value]
    return value


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: no secrets, no long texts, and UUIDs as strings (SEC-09, LOG-12)."""
    return {key: safe(key, value) for key, value in event.items()}


def pass_on(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for sink in line_sinks:
        sink(event)
    return event


def trace_processors() -> list[Processor]:
    try:
        return [importlib.import_module("seawall_service.correlation").add_trace_context]
    except ImportError:
        # Logging works without OpenTelemetry (LOG-03).
        return []


def build_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
        # After redaction, which ids do not need.
        *trace_processors(),
        pass_on,
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
            "seawall_service.sockets": named | {"level": "WARNING"},
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


def log_event(level: str, msg: str, *, request_id: str, extra: Mapping[str, object] | None = None, **ids: UUID | None) -> None:
    """One line about a request where its context is not at hand, such as in a task that outlives it (LOG-07).

    `ids` are `user_id` and those of the aggregates, such as `document_id`; None is left out.
    """
    known = {key: value for key, value in ids.items() if value is not None}
    write(level, msg, {**(extra or {}), **known, "request_id": request_id})


def log_exception(error: BaseException, event: str, *, level: str = "error", traceback: bool = True, **context: object) -> None:
    """What went wrong and where, for errors that are dealt with: whatever is raised further is logged where it ends (LOG-11)."""
    fields: dict[str, object] = {"error": type(error).__name__, "reason": str(error), **context}
    write(level, event, fields | ({"exc_info": error} if traceback else {}))


class Timing:
    """Both `with` and `async with`. What is put into the dict it gives is written with the duration."""

    def __init__(self, operation: str, level: str, context: dict[str, object]) -> None:
        self._operation = operation
        self._level = level
        self.context = context

    def __enter__(self) -> dict[str, object]:
        self._started = time.perf_counter()
        return self.context

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        fields = {"operation": self._operation, "duration_ms": milliseconds_since(self._started), **self.context}
        write(self._level, "operation.timed", fields | ({"error": kind.__name__} if kind else {}))

    async def __aenter__(self) -> dict[str, object]:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.__exit__(kind)


def log_timing(operation: str, *, level: str = "info", **context: object) -> Timing:
    """`with log_timing("rebuild", table="proj_documents") as found: found["rows"] = 7` writes one line at the end (LOG-09)."""
    return Timing(operation, level, context)


def log_external_api[**P, T](api: str, operation: str, *, log_args: bool = False) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates what calls somebody else's service, a function or a coroutine: one line for success or failure (LOG-10).

    `log_args` writes how many arguments there were, never what they were.
    """

    @contextmanager
    def call(count: int) -> Iterator[None]:
        fields: dict[str, object] = {"api": api, "operation": operation} | ({"args_count": count} if log_args else {})
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            taken = milliseconds_since(started)
            write("warning", "external_api.failure", fields | {"duration_ms": taken, "error": type(error).__name__})
            raise
        write("info", "external_api.success", fields | {"duration_ms": milliseconds_since(started)})

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
                with call(len(args) + len(kwargs)):
                    return await cast("Awaitable[object]", function(*args, **kwargs))

            # T is the coroutine that a call of either one gives.
            return cast("Callable[P, T]", awaited)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> T:
            with call(len(args) + len(kwargs)):
                return function(*args, **kwargs)

        return called

    return decorate


def milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def write(level: str, event: str, fields: Mapping[str, object]) -> None:
    structlog.get_logger("seawall_service").log(logging.getLevelNamesMapping()[level.upper()], event, **fields)
