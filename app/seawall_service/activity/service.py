"""Sums what the workers have measured. The histogram alone: its counts are those of the requests, so both always agree."""

import math
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from prometheus_client import Metric

from seawall_service.activity.queries import GetActivity
from seawall_service.activity.schemas import (
    ActivityResponse,
    LatencyBucketResponse,
    LatencyResponse,
    RequestCountsResponse,
)
from seawall_service.errors import NotFoundError
from seawall_service.handlers import handling
from seawall_service.metrics import PrometheusTelemetry

DURATION = "http_request_duration_seconds"
CLASSES = ("informational", "successful", "redirection", "client_error", "server_error")


@dataclass(frozen=True, slots=True)
class Container:
    """Who answers, and where its workers count; None where metrics are off."""

    release: str | None
    colour: str | None
    since: datetime
    prometheus: PrometheusTelemetry | None


def class_of(status_code: str) -> str:
    return CLASSES[int(status_code[0]) - 1]


def summarize(metrics: Iterable[Metric], hidden: Set[str]) -> tuple[RequestCountsResponse, LatencyResponse]:
    """Totals over all routes but the hidden ones."""
    requests: Counter[str] = Counter()
    buckets: Counter[float] = Counter()
    seconds = 0.0
    for sample in (sample for metric in metrics for sample in metric.samples):
        if not sample.name.startswith(DURATION) or sample.labels["path"] in hidden:
            continue
        match sample.name.removeprefix(DURATION):
            case "_bucket":
                buckets[float(sample.labels["le"])] += int(sample.value)
            case "_count":
                requests[class_of(sample.labels["status_code"])] += int(sample.value)
            case "_sum":
                seconds += sample.value
    counts = RequestCountsResponse(total=requests.total(), **{name: requests[name] for name in CLASSES})
    return counts, LatencyResponse(
        sum_seconds=seconds,
        buckets=[
            LatencyBucketResponse(at_most_seconds=None if math.isinf(bound) else bound, count=count)
            for bound, count in sorted(buckets.items())
        ],
    )


def get_activity(container: Container, query: GetActivity, principal_id: UUID, hidden: Set[str]) -> ActivityResponse:
    with handling(query, principal_id):
        if container.prometheus is None:
            raise NotFoundError("This service does not measure itself: METRICS_ENABLED is false")
        observed_at = datetime.now(UTC)
        requests, latency = summarize(container.prometheus.collect(), hidden)
        return ActivityResponse(
            release=container.release,
            colour=container.colour,
            since=container.since,
            observed_at=observed_at,
            requests=requests,
            latency=latency,
        )
