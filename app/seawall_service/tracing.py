"""Spans of the handlers, and what of an application is exported: nothing, unless OTEL_EXPORTER says so.

The SDK is only imported then. Providers are made with the application, exporters and their threads in the worker after the fork.
"""

import asyncio
import importlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import Span, StatusCode, Tracer
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from seawall_service.correlation import TRACE_HEADERS
from seawall_service.errors import BaseAppException, ErrorId
from seawall_service.otel.endpoints import Signal
from seawall_service.security.peer import TrustedPeers
from seawall_service.settings import Settings

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 3.0  # of the five that are left of the grace period when the requests are done
PROBE_PATHS = frozenset({"/healthz", "/health", "/api/v1/health/live", "/readyz", "/api/v1/health/ready", "/metrics"})
NO_SPAN: AbstractContextManager[None] = nullcontext()

# Of the application that the current request came to; a process of the tests has several.
current_tracer: ContextVar[Tracer | None] = ContextVar("current_tracer", default=None)


def with_tracing(name: str) -> AbstractContextManager[None]:
    """A span around a handler, such as `documents.command.append_entry`; costs nothing where no trace is exported (OTEL-02)."""
    tracer = current_tracer.get()
    return NO_SPAN if tracer is None else handler_span(tracer, name)


@contextmanager
def handler_span(tracer: Tracer, name: str) -> Iterator[None]:
    # Without the exception itself: its message may quote what a client sent.
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield
        except BaseException as error:
            note_error(span, error)
            raise


def note_error(span: Span, error: BaseException) -> None:
    """A refusal is an outcome and not an error of the service, as it is for the server's own span."""
    known = isinstance(error, BaseAppException)
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_attribute("seawall.code", error.error_id if isinstance(error, BaseAppException) else ErrorId.INTERNAL_ERROR)
    if not known:
        span.set_status(StatusCode.ERROR)


def signal_module(signal: Signal) -> ModuleType | None:
    """The module that exports a signal, or None, and a warning, where a package of OpenTelemetry is missing (OTEL-04)."""
    try:
        return importlib.import_module(f"seawall_service.otel.{signal}")
    except ImportError as error:
        log.warning(
            "startup.telemetry_package_missing",
            signal=signal,
            package=error.name,
            cure="Install opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http, or set OTEL_EXPORTER=none",
        )
        return None


class Exports:
    """Spans and log records of one application."""

    def __init__(self, settings: Settings, service_name: str) -> None:
        self._settings = settings
        self._traces = signal_module("traces") if has_destination(settings, "traces") else None
        self._logs = signal_module("logs") if settings.otel_logs and has_destination(settings, "logs") else None
        self._service_name = service_name
        self.tracer_provider: Any = self._traces.build_tracer_provider(settings, service_name) if self._traces else None

    @property
    def tracer(self) -> Tracer | None:
        return self.tracer_provider.get_tracer("seawall_service") if self.tracer_provider else None

    @property
    def native(self) -> TelemetryConfig:
        """For FastAPI, whose server span then is there before any middleware."""
        return {
            "tracer_provider": self.tracer_provider,
            "tracing": self.tracer_provider is not None,
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
            "exclude": lambda scope: scope["path"] in PROBE_PATHS,
        }

    @property
    def instrument_connection(self) -> Callable[[Any], None] | None:
        """What is to be done to each new database connection."""
        if self._traces is None:
            return None
        traces, provider = self._traces, self.tracer_provider
        return lambda connection: traces.instrument_connection(connection, provider)

    @asynccontextmanager
    async def exporting(self, *stop_as_well: Callable[[], None]) -> AsyncGenerator[None]:
        """Threads and connections to the collector, until what they hold is sent or FLUSH_SECONDS are over."""
        stop = list(stop_as_well)
        if self._traces is not None:
            stop.append(self._traces.start(self._settings, self.tracer_provider))
        if self._logs is not None:
            stop.append(self._logs.start(self._settings, self._service_name))
        try:
            yield
        finally:
            await within(FLUSH_SECONDS, stop)


async def within(seconds: float, calls: list[Callable[[], None]]) -> None:
    """Blocking calls in threads that do not outlive the process: a collector that is away must not hold up the end."""
    loop = asyncio.get_running_loop()
    ended = [asyncio.Event() for _ in calls]

    def run(call: Callable[[], None], event: asyncio.Event) -> None:
        try:
            call()
        finally:
            loop.call_soon_threadsafe(event.set)

    for call, event in zip(calls, ended, strict=True):
        threading.Thread(target=run, args=(call, event), daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            for event in ended:
                await event.wait()
    except TimeoutError:
        log.warning("telemetry.flush_incomplete", seconds=seconds)


def has_destination(settings: Settings, signal: Signal) -> bool:
    """Whether the settings name a place for this signal. Without one nothing is set up, and the start warns (OTEL-04)."""
    if settings.otel_exporter == "console":
        return signal == "traces"
    return settings.otel_exporter == "otlp" and bool(settings.otlp_endpoint(signal))


class TracedAPI(FastAPI):
    """FastAPI that takes a trace only from trusted peers, where spans are made: the server span begins before all middleware."""

    trusted_peers: TrustedPeers | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.trusted_peers is not None and scope["type"] in {"http", "websocket"}:
            trusted, _ = self.trusted_peers.judge(scope, Headers(scope=scope))
            if not trusted:
                scope["headers"] = [header for header in scope["headers"] if header[0].lower() not in TRACE_HEADERS]
        await super().__call__(scope, receive, send)
