"""Turns every error into the envelope. Handlers return responses; nothing in here may raise."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from seawall_service.correlation import get_request_id
from seawall_service.errors import RETRY_SOON, BaseAppException, ErrorId, JsonValue, id_of_status

log = structlog.get_logger(__name__)

# Two requests can be at odds in these ways; any other broken constraint is a mistake of ours, whatever the client is told.
CONFLICTS = (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation, psycopg.errors.ExclusionViolation)
# The client did nothing wrong and may try again. The pool's own errors are OperationalErrors: a full pool is "not available" too.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
# A validation error is about what a client sent, so neither the answer nor the log line may grow with that.
MAX_ERRORS = 20
MAX_LOCATION = 10
MAX_LOCATION_PART = 100
MAX_MESSAGE = 200


class ErrorBody(BaseModel):
    """What went wrong, for programs (`code`), for people (`message`) and for support (`request_id`)."""

    code: str = Field(description="Stable: codes are added, never renamed or removed", examples=["not_found"])
    message: str = Field(description="One sentence in English, which may change", examples=["Not Found"])
    request_id: str = Field(
        description="The same as in X-Request-ID, and in the service's log", examples=["5f0c2b7e-6d5c-4b0e-9d1f-0c7f3a1f9b52"]
    )
    details: JsonValue = Field(None, description="What more there is to say, in a form that depends on the code; often null")


class ErrorResponse(BaseModel):
    """The envelope of every error."""

    error: ErrorBody


def error_response(
    status: int,
    code: ErrorId,
    message: str,
    details: JsonValue = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    body = ErrorResponse(error=ErrorBody(code=code.value, message=message, request_id=get_request_id(), details=details))
    return JSONResponse(body.model_dump(mode="json"), status_code=status, headers=headers)


def internal_error_response() -> JSONResponse:
    return error_response(500, ErrorId.INTERNAL_ERROR, "Internal server error")


async def on_app_exception(_: Request, error: Exception) -> Response:
    known = cast("BaseAppException", error)
    if known.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", code=known.error_id, exc_info=known)
    else:
        log.info("request.denied", code=known.error_id, reason=known.message)
    return error_response(known.status_code, known.error_id, known.message, known.details, known.headers)


async def on_http_exception(_: Request, error: Exception) -> Response:
    known = cast("HTTPException", error)
    headers = dict(known.headers) if known.headers else None
    if known.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", exc_info=known)
    else:
        log.info("request.denied", code=id_of_status(known.status_code), reason=str(known.detail))
    return error_response(known.status_code, id_of_status(known.status_code), str(known.detail), None, headers)


def speakable(text: str, limit: int) -> str:
    """The beginning of it; a field's name may be half of a surrogate pair, which no answer can carry."""
    return text[:limit].encode(errors="replace").decode()


def speakable_location(location: Sequence[str | int]) -> list[JsonValue]:
    return [speakable(part, MAX_LOCATION_PART) if isinstance(part, str) else part for part in location[:MAX_LOCATION]]


async def on_validation_error(_: Request, error: Exception) -> Response:
    known = cast("ValidationException", error)
    errors = known.errors()[:MAX_ERRORS]
    # Only these three keys: `input` repeats what the client sent, which may be a password.
    details: JsonValue = [
        {"loc": speakable_location(item["loc"]), "msg": speakable(item["msg"], MAX_MESSAGE), "type": item["type"]}
        for item in errors
    ]
    log.info("request.denied", code=ErrorId.VALIDATION_ERROR, types=[item["type"] for item in errors])
    return error_response(422, ErrorId.VALIDATION_ERROR, "Validation error", details)


async def on_integrity_error(_: Request, error: Exception) -> Response:
    known = cast("psycopg.errors.IntegrityError", error)
    if isinstance(known, CONFLICTS):
        log.info("request.denied", code=ErrorId.CONFLICT, constraint=known.diag.constraint_name)
    else:
        log.error("request.failed", code=ErrorId.CONFLICT, exc_info=known)
    return error_response(409, ErrorId.CONFLICT, "Conflict with the stored data")


async def on_database_unavailable(_: Request, error: Exception) -> Response:
    log.error("request.failed", code=ErrorId.SERVICE_UNAVAILABLE, exc_info=error)
    return error_response(503, ErrorId.SERVICE_UNAVAILABLE, "The database is not available", None, RETRY_SOON)


async def on_exception(_: Request, __: Exception) -> Response:
    """Logs nothing: the boundary does, and what gets past it is raised again, so that the server does."""
    return internal_error_response()


def register_exception_handlers(app: FastAPI) -> None:
    app.add_exception_handler(BaseAppException, on_app_exception)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    # Of a WebSocket whose upgrade is still to be answered.
    app.add_exception_handler(WebSocketRequestValidationError, on_validation_error)
    app.add_exception_handler(psycopg.errors.IntegrityError, on_integrity_error)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, on_database_unavailable)
    app.add_exception_handler(Exception, on_exception)
