"""The response of /api/v1/activity."""

from datetime import datetime

from pydantic import Field

from seawall_service.schemas import BaseResponse


class RequestCountsResponse(BaseResponse):
    """Answers by class of their status; probes and questions for this are left out."""

    total: int
    informational: int
    successful: int
    redirection: int
    client_error: int
    server_error: int


class LatencyBucketResponse(BaseResponse):
    """How many answers took at most so long, those of the smaller buckets included."""

    at_most_seconds: float | None = Field(description="null: however long")
    count: int


class LatencyResponse(BaseResponse):
    """How long the same answers took, as a histogram."""

    sum_seconds: float
    buckets: list[LatencyBucketResponse]


class ActivityResponse(BaseResponse):
    """Totals of all workers of one container. Two answers with the same `release`, `colour` and `since` make a rate."""

    release: str | None = Field(description="The image that answers")
    colour: str | None = Field(description="Which of the two containers of a host")
    since: datetime = Field(description="When it started, and all counts were 0")
    observed_at: datetime = Field(description="When the counts were read, by its clock")
    requests: RequestCountsResponse
    latency: LatencyResponse
