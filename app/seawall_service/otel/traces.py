"""Spans: ids that are UUIDs, a sampler that only lets requests begin traces, and no query strings."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, override

import psycopg
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from seawall_service.correlation import new_span_id, new_trace_id, within_share
from seawall_service.logging import MAX_TEXT, REDACTED
from seawall_service.otel.resource import build_resource
from seawall_service.settings import Settings

QUERY = "url.query"


class UuidIds(IdGenerator):
    @override
    def generate_span_id(self) -> int:
        return new_span_id()

    @override
    def generate_trace_id(self) -> int:
        return new_trace_id()

    @override
    def is_trace_id_random(self) -> bool:
        return True


class RequestSampler(Sampler):
    """A share of the requests. TraceIdRatioBased cannot be used: it compares 64 bits, of which a UUID fixes the first two.

    Whatever else begins without a parent, such as the statements of the start, is not a trace that anybody looks for.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    @override
    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if kind is SpanKind.SERVER and within_share(trace_id, self._share):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return SamplingResult(Decision.DROP)

    @override
    def get_description(self) -> str:
        return f"RequestSampler({self._share})"


class QueryRedaction(SpanProcessor):
    """A query string may hold a token; the access line leaves it out for the same reason (SEC-09)."""

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.attributes and QUERY in span.attributes:
            span.set_attribute(QUERY, REDACTED)


def build_tracer_provider(settings: Settings, service_name: str) -> TracerProvider:
    """Without exporters, and so without threads, until `start`: safe to make before a fork."""
    provider = TracerProvider(
        sampler=ParentBased(RequestSampler(settings.otel_sample_rate)),
        resource=build_resource(settings, service_name),
        id_generator=UuidIds(),
        span_limits=SpanLimits(max_span_attribute_length=MAX_TEXT),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(QueryRedaction())
    return provider


def one_line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


def build_span_processor(settings: Settings) -> SpanProcessor:
    if settings.otel_exporter == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr, formatter=one_line))
    exporter: SpanExporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint("traces"))
    return BatchSpanProcessor(exporter)


def start(settings: Settings, provider: TracerProvider) -> Callable[[], None]:
    """Begins to export; the result sends what is left and ends it."""
    provider.add_span_processor(build_span_processor(settings))
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)

    def stop() -> None:
        instrumentor.uninstrument()
        provider.shutdown()

    return stop


def instrument_connection(connection: psycopg.AsyncConnection[Any], provider: TracerProvider) -> None:
    """A span for each statement, with its text and without its parameters."""
    PsycopgInstrumentor.instrument_connection(connection, tracer_provider=provider)
