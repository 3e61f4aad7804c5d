"""Where each signal goes: the collector's address with the signal's path (OTEL-03)."""

from typing import Literal

Signal = Literal["traces", "logs", "metrics"]


def build_otlp_endpoint(endpoint: str, signal: Signal) -> str:
    """`http://collector:4318` becomes `http://collector:4318/v1/traces`; what ends so already is kept; nothing stays nothing."""
    trimmed = endpoint.rstrip("/")
    suffix = f"/v1/{signal}"
    return trimmed if not trimmed or trimmed.endswith(suffix) else trimmed + suffix


def build_otlp_traces_endpoint(endpoint: str) -> str:
    return build_otlp_endpoint(endpoint, "traces")


def build_otlp_logs_endpoint(endpoint: str) -> str:
    return build_otlp_endpoint(endpoint, "logs")


def build_otlp_metrics_endpoint(endpoint: str) -> str:
    return build_otlp_endpoint(endpoint, "metrics")
