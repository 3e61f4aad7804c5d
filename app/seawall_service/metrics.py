"""Prometheus: one registry per application, summed over the workers when they share a directory."""

import os
from collections.abc import Iterable, Mapping

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

METRICS_PATH = "/metrics"
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class PrometheusTelemetry:
    """The sink that `GET /metrics` asks. A metric comes into being with its first measurement, and with the names of its tags."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, Gauge] = {}

    def count(self, name: str, tags: Mapping[str, str]) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter(name, described(name), list(tags), registry=self.registry)
        (counter.labels(*tags.values()) if tags else counter).inc()

    def duration(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = Histogram(f"{name}_seconds", described(name), list(tags), registry=self.registry)
            self._histograms[name] = histogram
        (histogram.labels(*tags.values()) if tags else histogram).observe(seconds)

    def gauge(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = Gauge(name, described(name), list(tags), registry=self.registry, multiprocess_mode="livesum")
            self._gauges[name] = gauge
        (gauge.labels(*tags.values()) if tags else gauge).set(value)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def _summed(self) -> CollectorRegistry:
        if MULTIPROCESS_VARIABLE not in os.environ:
            return self.registry
        combined = CollectorRegistry(support_collectors_without_names=True)
        MultiProcessCollector(combined)
        return combined

    def collect(self) -> Iterable[Metric]:
        return self._summed().collect()

    def render(self) -> bytes:
        return generate_latest(self._summed())


def described(name: str) -> str:
    return name.replace("_", " ").capitalize()


def build_metrics_router(prometheus: PrometheusTelemetry) -> APIRouter:
    router = APIRouter()

    # Not `async`: reading the workers' files blocks, so it belongs in a thread.
    @router.get(METRICS_PATH, include_in_schema=False)
    def read_metrics() -> Response:
        return Response(prometheus.render(), media_type=CONTENT_TYPE_LATEST)

    return router
