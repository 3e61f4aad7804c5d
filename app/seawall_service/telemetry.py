"""Measurements: one protocol, and the sinks behind it. `build_telemetry` chooses them; a new sink is a class with these methods.

Names carry no unit: each sink adds the one that is usual where it writes, so `http_request_duration` is `_ms` in log lines
and `_seconds` for Prometheus. Tag values must come from small sets, since each combination is a time series.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
from opentelemetry.trace import get_current_span

from seawall_service.correlation import new_trace_id, within_share
from seawall_service.metrics import PrometheusTelemetry
from seawall_service.settings import Settings
from seawall_service.tracing import has_destination, signal_module

log = structlog.get_logger("seawall_service.telemetry")

type Tags = Mapping[str, str]


class Telemetry(Protocol):
    """None of these raises or waits: they are called while a request is answered."""

    def count(self, name: str, tags: Tags) -> None:
        """One more of these."""

    def duration(self, name: str, seconds: float, tags: Tags) -> None:
        """How long one of these took."""

    def gauge(self, name: str, value: float, tags: Tags) -> None:
        """How many there are of these in this worker; sinks add the workers up."""

    def open(self) -> None:
        """In the worker, before the first request."""

    def close(self) -> None:
        """After the last one; may block while it sends what is left."""


class NoopTelemetry:
    def count(self, name: str, tags: Tags) -> None: ...
    def duration(self, name: str, seconds: float, tags: Tags) -> None: ...
    def gauge(self, name: str, value: float, tags: Tags) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...


class LoggingTelemetry:
    """Lines for whoever counts log lines. A share of the requests: of one request either all measurements or none."""

    def __init__(self, share: float) -> None:
        self._share = share

    def _chosen(self) -> bool:
        return within_share(get_current_span().get_span_context().trace_id or new_trace_id(), self._share)

    def count(self, name: str, tags: Tags) -> None:
        if self._chosen():
            log.info("telemetry.counter", metric=f"{name}_total", value=1, **tags)

    def duration(self, name: str, seconds: float, tags: Tags) -> None:
        if self._chosen():
            log.info("telemetry.histogram", metric=f"{name}_ms", value=round(seconds * 1000, 3), **tags)

    def gauge(self, name: str, value: float, tags: Tags) -> None:
        if self._chosen():
            log.info("telemetry.gauge", metric=name, value=value, **tags)

    def open(self) -> None: ...
    def close(self) -> None: ...


class FanOut:
    def __init__(self, sinks: Sequence[Telemetry]) -> None:
        self._sinks = sinks

    def count(self, name: str, tags: Tags) -> None:
        for sink in self._sinks:
            sink.count(name, tags)

    def duration(self, name: str, seconds: float, tags: Tags) -> None:
        for sink in self._sinks:
            sink.duration(name, seconds, tags)

    def gauge(self, name: str, value: float, tags: Tags) -> None:
        for sink in self._sinks:
            sink.gauge(name, value, tags)

    def open(self) -> None:
        for sink in self._sinks:
            sink.open()

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def build_telemetry(settings: Settings, service_name: str, prometheus: PrometheusTelemetry | None = None) -> Telemetry:
    """All sinks that the settings ask for (C8); the no-op when there is none."""
    sinks: list[Telemetry] = [] if prometheus is None else [prometheus]
    if settings.telemetry_mode == "log":
        sinks.append(LoggingTelemetry(settings.telemetry_sample_rate))
    if settings.otel_metrics and has_destination(settings, "metrics"):
        module = signal_module("metrics")
        if module is not None:
            sinks.append(module.OtlpTelemetry(settings, service_name))
    if len(sinks) > 1:
        return FanOut(sinks)
    return sinks[0] if sinks else NoopTelemetry()
