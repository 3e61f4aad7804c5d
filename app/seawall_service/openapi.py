"""What /openapi.json says beyond the routes themselves: errors, names, how to sign in."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from seawall_service.error_handlers import ErrorResponse

# Of every operation. ERR-08
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "model": ErrorResponse,
        "description": "Any other error. `error.code` is stable; 503 and 429 come with `Retry-After`.",
    },
    422: {"model": ErrorResponse, "description": "`validation_error`: `error.details` lists `{loc, msg, type}`."},
}
DESCRIPTION = """
Every error has the envelope `{"error": {"code", "message", "request_id", "details"}}`, and every answer the header
`X-Request-ID`: send your own (1 to 128 of `A-Za-z0-9._-`) or read ours. Commands take an `Idempotency-Key`: with the same key
the same command runs once, for a day, and each repetition gets the answer of the first.
"""
PUBLIC_TAGS = {"auth"}
BEARER_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The access token of /api/auth/login. The edge checks it; the service itself sees only whose it is.",
}


def operation_id(route: APIRoute) -> str:
    """The function's name, which is the command's or the query's: what a generated client calls its method."""
    return route.name


class DocumentedAPI(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is not None:
            return self.openapi_schema
        schema = super().openapi()
        schema["components"]["securitySchemes"] = {"accessToken": BEARER_SCHEME}
        for operation in (operation for operations in schema["paths"].values() for operation in operations.values()):
            if PUBLIC_TAGS.isdisjoint(operation.get("tags", [])):
                operation["security"] = [{"accessToken": []}]
        return schema
