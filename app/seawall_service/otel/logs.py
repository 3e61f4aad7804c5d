"""Log lines as OTLP records, after redaction: the collector gets what stdout gets (OTEL-07)."""

from collections.abc import Callable

import orjson
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.util.types import AnyValue
from structlog.types import EventDict

from seawall_service.logging import line_sinks
from seawall_service.otel.resource import build_resource
from seawall_service.settings import Settings

SEVERITY = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
# Are fields of a record, not attributes of it; `_…` are structlog's own.
FIELDS = frozenset({"event", "level", "timestamp"})
# They export: a line of theirs about a collector that is away would be the next thing to export.
EXPORTERS = ("opentelemetry", "urllib3", "requests")


def attribute(value: object) -> AnyValue:
    return value if isinstance(value, str | bool | int | float) else orjson.dumps(value, default=str).decode()


def attributes_of(event: EventDict) -> dict[str, AnyValue]:
    chosen = (item for item in event.items() if item[0] not in FIELDS and not item[0].startswith("_") and item[1] is not None)
    return {key: attribute(value) for key, value in chosen}


def start(settings: Settings, service_name: str) -> Callable[[], None]:
    """Begins to export; the result sends what is left and ends it."""
    provider = LoggerProvider(resource=build_resource(settings, service_name), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=settings.otlp_endpoint("logs"))))
    logger = provider.get_logger("seawall_service")

    def emit(event: EventDict) -> None:
        if str(event.get("logger", "")).startswith(EXPORTERS):
            return
        level = str(event.get("level", "info"))
        # Trace and span id are those of the current context, which is the one of the line.
        logger.emit(
            body=str(event.get("event", "")),
            severity_text=level.upper(),
            severity_number=SEVERITY.get(level, SeverityNumber.INFO),
            attributes=attributes_of(event),
        )

    line_sinks.append(emit)

    def stop() -> None:
        line_sinks.remove(emit)
        provider.shutdown()

    return stop
