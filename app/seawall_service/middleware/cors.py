"""CORS as Starlette does it, except that a refused preflight has the envelope too."""

from http import HTTPStatus

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from seawall_service.error_handlers import error_response
from seawall_service.errors import ErrorId, id_of_status

log = structlog.get_logger(__name__)


class EnvelopeCORSMiddleware(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        reason = bytes(answer.body).decode()
        log.info("request.denied", code=ErrorId.BAD_REQUEST, reason=reason)
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return error_response(answer.status_code, id_of_status(answer.status_code), reason, None, headers)
