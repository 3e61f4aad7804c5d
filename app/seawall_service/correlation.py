"""The trace context is where all ids of a request come from: `correlation_id` is the trace id, written as a UUID.

Every request has one, also where nothing is exported: then it is made here, without any span of the SDK (LOG-02, OTEL-01, C6).
"""

import random
from collections.abc import Mapping
from contextvars import Token
from functools import lru_cache
from uuid import UUID, uuid4

import structlog
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.types import EventDict, WrappedLogger

# Whoever may set these decides which requests belong together, and which are exported.
TRACE_HEADERS = frozenset({b"traceparent", b"tracestate", b"baggage"})
SPAN_ID_BITS = 64
RANDOM_BITS = 56  # of a trace id, from its end; the others may be fixed, as in a UUID

PROPAGATOR = TraceContextTextMapPropagator()


def new_trace_id() -> int:
    """128 bits that are also a valid UUID of version 4."""
    return uuid4().int


def new_span_id() -> int:
    return random.getrandbits(SPAN_ID_BITS) or 1


def within_share(trace_id: int, share: float) -> bool:
    """Whether a trace belongs to the share (0 to 1) that is kept; the same answer wherever it is asked."""
    return trace_id & ((1 << RANDOM_BITS) - 1) < share * (1 << RANDOM_BITS)


def get_request_id() -> str:
    """Empty outside of a request."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def current_correlation_id() -> UUID | None:
    """The current trace's id, or None outside of a request."""
    trace_id = get_current_span().get_span_context().trace_id
    return UUID(int=trace_id) if trace_id else None


def request_context(headers: Mapping[str, str], *, trusted: bool) -> Context | None:
    """What to attach for a request that has no span yet: the caller's trace if the caller is believed, else a new one."""
    if get_current_span().get_span_context().is_valid:
        return None
    trace_id = 0
    if trusted and "traceparent" in headers:
        trace_id = get_current_span(PROPAGATOR.extract(headers)).get_span_context().trace_id
    context = SpanContext(trace_id or new_trace_id(), new_span_id(), is_remote=False, trace_flags=TraceFlags(0))
    return set_span_in_context(NonRecordingSpan(context))


class RequestTrace:
    """Entered by the outermost middleware; gives the request's correlation id."""

    __slots__ = ("_context", "_token")

    def __init__(self, headers: Mapping[str, str], *, trusted: bool) -> None:
        self._context = request_context(headers, trusted=trusted)
        self._token: Token[Context] | None = None

    def __enter__(self) -> str:
        if self._context is not None:
            self._token = attach(self._context)
        return ids_of(get_current_span().get_span_context().trace_id)[1]

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            detach(self._token)


@lru_cache(maxsize=1024)
def ids_of(trace_id: int) -> tuple[str, str]:
    """As 32 hexadecimal digits, and as a UUID; kept, since a request writes several lines."""
    text = f"{trace_id:032x}"
    return text, f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def add_trace_context(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: `trace_id`, `span_id` and `correlation_id` of the current span, where there is a valid one (LOG-03)."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"], event["correlation_id"] = ids_of(context.trace_id)
        event["span_id"] = f"{context.span_id:016x}"
    return event
