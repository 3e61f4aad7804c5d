"""/api/v1/activity: which release answers, and the counts that a page draws its charts from."""

from fastapi import APIRouter, Request

from seawall_service import health
from seawall_service.activity import service
from seawall_service.activity.queries import GetActivity
from seawall_service.activity.schemas import ActivityResponse
from seawall_service.deps import CurrentUserId

PATH = "/api/v1/activity"
# Nobody wants to see the probes, or the looking itself.
HIDDEN = {PATH} | {getattr(route, "path", "") for route in health.router.routes}

router = APIRouter(tags=["activity"])


# Not `async`: reading the workers' files blocks, so it belongs in a thread.
@router.get(PATH)
def get_activity(principal_id: CurrentUserId, request: Request) -> ActivityResponse:
    """What the answering container is, and what it has answered since it started; `not_found` where metrics are off."""
    return service.get_activity(request.app.state.container, GetActivity(), principal_id, HIDDEN)
