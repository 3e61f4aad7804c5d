"""A small OpenTelemetry collector: takes OTLP over HTTP and keeps what it decodes."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def values(attributes: list[KeyValue]) -> dict[str, object]:
    """Only what the tests look at: texts, numbers and truth values."""
    found: dict[str, object] = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, kind) if kind else None
    return found


class Collector:
    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, object], Span]] = []
        self.records: list[tuple[dict[str, object], LogRecord]] = []
        self.metrics: list[tuple[dict[str, object], Metric]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.unknown_paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append({key.lower(): value for key, value in self.headers.items()})
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                """Somebody else's service, for outgoing requests."""
                collector.headers.append({key.lower(): value for key, value in self.headers.items()})
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = self.resource(sent.resource)
                self.spans += [(resource, span) for scope in sent.scope_spans for span in scope.spans]
        elif path == "/v1/logs":
            for logged in ExportLogsServiceRequest.FromString(body).resource_logs:
                resource = self.resource(logged.resource)
                self.records += [(resource, record) for scope in logged.scope_logs for record in scope.log_records]
        elif path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                resource = self.resource(measured.resource)
                self.metrics += [(resource, metric) for scope in measured.scope_metrics for metric in scope.metrics]
        else:
            self.unknown_paths.append(path)

    @staticmethod
    def resource(sent: Resource) -> dict[str, object]:
        return values(list(sent.attributes))

    def span(self, name: str) -> Span:
        (found,) = [span for _, span in self.spans if span.name == name]
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
