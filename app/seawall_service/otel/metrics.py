"""Measurements pushed by OTLP; each worker is an instance, so the receiver adds them up (OTEL-07, C8)."""

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from seawall_service.otel.resource import build_resource
from seawall_service.settings import Settings
from seawall_service.telemetry import Tags


class OtlpTelemetry:
    def __init__(self, settings: Settings, service_name: str) -> None:
        self._settings = settings
        self._service_name = service_name
        self._provider: MeterProvider | None = None
        self._meter: Meter | None = None
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, Gauge] = {}

    def open(self) -> None:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=self._settings.otlp_endpoint("metrics")))
        resource = build_resource(self._settings, self._service_name)
        self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("seawall_service")

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = self._meter = None

    def count(self, name: str, tags: Tags) -> None:
        if self._meter is None:
            return
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name)
        self._counters[name].add(1, tags)

    def duration(self, name: str, seconds: float, tags: Tags) -> None:
        if self._meter is None:
            return
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(name, unit="s")
        self._histograms[name].record(seconds, tags)

    def gauge(self, name: str, value: float, tags: Tags) -> None:
        if self._meter is None:
            return
        if name not in self._gauges:
            self._gauges[name] = self._meter.create_gauge(name)
        self._gauges[name].set(value, tags)
