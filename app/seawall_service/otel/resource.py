"""Who sends: the same attributes on spans, log records and metrics (OTEL-05)."""

import os
import socket

from opentelemetry.sdk.resources import Resource

from seawall_service.settings import Settings


def build_resource(settings: Settings, service_name: str) -> Resource:
    """Each worker is an instance of its own: sums of their counters would otherwise jump back and forth."""
    attributes = {
        "service.name": settings.otel_service_name or service_name,
        "service.version": settings.release or "unknown",
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        "deployment.environment.name": settings.environment.value,
    }
    return Resource.create(attributes)
