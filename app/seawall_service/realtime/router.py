"""/api/v1/documents/{document_id}/live: a WebSocket that tells a member each entry as it is appended."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

import orjson
import structlog
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected

from seawall_service.deps import CurrentUserId
from seawall_service.documents.queries import WatchDocument
from seawall_service.documents.schemas import MAX_INTEGER
from seawall_service.handlers import handling
from seawall_service.rate_limit.interface import RateLimiter
from seawall_service.rate_limit.policies import RateLimitPolicies
from seawall_service.realtime.committed import Head
from seawall_service.realtime.origin import AllowedOrigin, hub_of
from seawall_service.realtime.schemas import PongMessage, ReadyMessage
from seawall_service.realtime.socket import FAILED, NOT_UNDERSTOOD, TOO_FAST, TOO_LARGE, TOO_MANY, Ending, Socket

log = structlog.get_logger(__name__)

SUBPROTOCOL = "seawall.v1"
PONG = PongMessage().model_dump_json()

AfterPosition = Annotated[int, Query(ge=0, le=MAX_INTEGER)]


router = APIRouter(prefix="/api/v1/documents")


async def may_say_more(websocket: WebSocket, user_id: UUID) -> bool:
    """What the limiter says of one more message; it has counted the upgrade already, among the middleware."""
    limiter: RateLimiter | None = websocket.state.rate_limiter
    if limiter is None:
        return True
    policies: RateLimitPolicies = websocket.app.state.rate_limit_policies
    return (await limiter.hit(policies.socket_hits(user_id, websocket.state.client_ip, "message"))).allowed


@router.websocket("/{document_id}/live")
async def live(
    websocket: WebSocket, _: AllowedOrigin, document_id: UUID, principal_id: CurrentUserId, after: AfterPosition | None = None
) -> None:
    hub = hub_of(websocket)
    with handling(WatchDocument(document_id, after), principal_id, document_id=document_id):
        head = await hub.head_for(document_id, principal_id)
    # Not beyond the end, as after a restore: what comes next would be taken for known.
    position = head.position if after is None else min(after, head.position)
    socket = Socket(websocket, principal_id, document_id, position, hub.queue_size)
    refused = await hub.counts.enter(principal_id, document_id)
    if refused is not None:
        log.warning("ws_limit.rejected", limit=refused.partition(":")[0])
        await accept(websocket)
        await socket.close(TOO_MANY)
        return
    hub.add(socket, head)
    try:
        ending = await serve(websocket, socket, head)
    finally:
        hub.remove(socket)
    if ending is not None:
        log.info("websocket.ended", code=ending.code, close_code=ending.close_code)
        await socket.close(ending)


async def accept(websocket: WebSocket) -> None:
    offered = websocket.scope.get("subprotocols", [])
    try:
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    except OSError as error:
        # The client has left already.
        raise WebSocketDisconnect(1006) from error


async def serve(websocket: WebSocket, socket: Socket, head: Head) -> Ending | None:
    """Until one side ends it; None when that was the client."""
    await accept(websocket)
    ready = ReadyMessage(
        connection_id=socket.connection_id,
        request_id=websocket.state.request_id,
        version=head.version,
        position=socket.position,
    )
    socket.say(ready.model_dump_json())
    sender = asyncio.create_task(socket.send_all(hub_of(websocket).read_page))
    reader = asyncio.create_task(receive_all(websocket, socket))
    ways_out: set[asyncio.Future[Any]] = {sender, reader, socket.ended}
    try:
        await asyncio.wait(ways_out, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, reader):
            task.cancel()
        results = await asyncio.gather(sender, reader, return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception) and not is_disconnect(result)]
    if failures:
        log.error("websocket.failed", exc_info=failures[0])
        return FAILED
    return socket.ended.result() if socket.ended.done() else None


def is_disconnect(error: Exception) -> bool:
    return isinstance(error, WebSocketDisconnect | WebSocketDisconnected)


async def receive_all(websocket: WebSocket, socket: Socket) -> None:
    """Until the client leaves, or says what ends the socket."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        ending = await judge(websocket, socket, message.get("text"), message.get("bytes"))
        if ending is not None:
            socket.end(ending)
            return


async def judge(websocket: WebSocket, socket: Socket, text: str | None, data: bytes | None) -> Ending | None:
    content = text.encode() if text is not None else data or b""
    limit = hub_of(websocket).max_message_bytes
    if limit is not None and len(content) > limit:
        return TOO_LARGE
    if not await may_say_more(websocket, socket.user_id):
        log.warning("rate_limit.rejected", rule="socket:message")
        return TOO_FAST
    if text is None or not is_ping(content):
        return NOT_UNDERSTOOD
    socket.say(PONG)
    return None


def is_ping(content: bytes) -> bool:
    try:
        return bool(orjson.loads(content) == {"type": "ping"})
    except orjson.JSONDecodeError:
        return False
