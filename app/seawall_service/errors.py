"""The one hierarchy of errors, and the stable codes that clients see."""

from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar

type JsonValue = bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None

RETRY_SOON = {"Retry-After": "1"}


class ErrorId(StrEnum):
    """`error.code` of the envelope. Codes may be added, never renamed or removed."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    OWNERSHIP_REQUIRED = "ownership_required"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    VALIDATION_ERROR = "validation_error"
    RATE_LIMITED = "rate_limited"
    WS_LIMIT = "ws_limit"
    INTERNAL_ERROR = "internal_error"
    SERVICE_UNAVAILABLE = "service_unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"


ID_OF_STATUS: dict[int, ErrorId] = {
    400: ErrorId.BAD_REQUEST,
    401: ErrorId.UNAUTHORIZED,
    403: ErrorId.FORBIDDEN,
    404: ErrorId.NOT_FOUND,
    405: ErrorId.METHOD_NOT_ALLOWED,
    409: ErrorId.CONFLICT,
    413: ErrorId.PAYLOAD_TOO_LARGE,
    422: ErrorId.VALIDATION_ERROR,
    429: ErrorId.RATE_LIMITED,
    503: ErrorId.SERVICE_UNAVAILABLE,
    504: ErrorId.GATEWAY_TIMEOUT,
}


def id_of_status(status: int) -> ErrorId:
    fallback = ErrorId.INTERNAL_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ErrorId.BAD_REQUEST
    return ID_OF_STATUS.get(status, fallback)


class SeawallError(Exception):
    """Root of everything this service raises on purpose."""


class BaseAppException(SeawallError):
    """An error with an answer: services raise subclasses, handlers turn them into the envelope."""

    status_code: ClassVar[int] = 500
    error_id: ClassVar[ErrorId] = ErrorId.INTERNAL_ERROR
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str, details: JsonValue = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UnauthorizedError(BaseAppException):
    status_code = 401
    error_id = ErrorId.UNAUTHORIZED
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class ForbiddenError(BaseAppException):
    status_code = 403
    error_id = ErrorId.FORBIDDEN


class OwnershipRequiredError(BaseAppException):
    status_code = 403
    error_id = ErrorId.OWNERSHIP_REQUIRED

    def __init__(self) -> None:
        super().__init__("Only the owner of the document may do this")


class NotFoundError(BaseAppException):
    status_code = 404
    error_id = ErrorId.NOT_FOUND

    def __init__(self, message: str = "Not Found") -> None:
        super().__init__(message)


class ConflictError(BaseAppException):
    status_code = 409
    error_id = ErrorId.CONFLICT


class IdempotencyKeyReusedError(BaseAppException):
    status_code = 409
    error_id = ErrorId.IDEMPOTENCY_KEY_REUSED


class InvalidInputError(BaseAppException):
    """What only the service can find wrong, in the shape of a validation error."""

    status_code = 422
    error_id = ErrorId.VALIDATION_ERROR

    def __init__(self, loc: list[JsonValue], message: str, kind: str) -> None:
        super().__init__("Validation error", [{"loc": loc, "msg": message, "type": kind}])


class ServiceUnavailableError(BaseAppException):
    status_code = 503
    error_id = ErrorId.SERVICE_UNAVAILABLE
    headers: ClassVar[dict[str, str]] = RETRY_SOON


def first_line(error: BaseException) -> str:
    """What a command says of an error; the lines after it may quote statements and values."""
    return str(error).partition("\n")[0]
