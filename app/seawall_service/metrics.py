"""Request metrics, one registry per application, summed over the workers when they share a directory."""

import os
from http import HTTPMethod

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

METRICS_PATH = "/metrics"
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
KNOWN_METHODS = frozenset(HTTPMethod)


class RequestMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("http_requests", "Requests answered", ["method", "path", "status_code"], registry=self.registry)
        self._duration = Histogram("http_request_duration_seconds", "Time to answer", ["method", "path"], registry=self.registry)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        # Clients choose the method freely; unknown ones must not each open a time series.
        label = method if method in KNOWN_METHODS else "OTHER"
        self._requests.labels(label, path, str(status)).inc()
        self._duration.labels(label, path).observe(seconds)

    def render(self) -> bytes:
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        combined = CollectorRegistry(support_collectors_without_names=True)
        MultiProcessCollector(combined)
        return generate_latest(combined)


def build_metrics_router(metrics: RequestMetrics) -> APIRouter:
    router = APIRouter()

    # Not `async`: reading the workers' files blocks, so it belongs in a thread.
    @router.get(METRICS_PATH, include_in_schema=False)
    def read_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
