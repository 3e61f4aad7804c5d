"""What every answer of the edge must have, and the envelope that every error must be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from installation import REPOSITORY

# Values as patterns that the whole of a header must match.
HEADERS = {
    "strict-transport-security": r"max-age=\d+.*",
    "x-content-type-options": "nosniff",
    "x-frame-options": "(?i)deny",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'.*",
    "permissions-policy": ".+",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "x-permitted-cross-domain-policies": "none",
    "x-dns-prefetch-control": "off",
    "x-request-id": "[A-Za-z0-9._-]{1,128}",
}
SAID_WHEN_TO_RETRY = {429, 502, 503, 504}
CLOSED = 0


@dataclass(frozen=True)
class Reply:
    """One answer, its headers in order with names in small letters. CLOSED is the status of an end without an answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    # Why HTTP/2 ended: the code of GOAWAY or RST_STREAM.
    reason: int | None = None

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given == name]

    def one(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, (self.status, name, values)
        return values[0]


def codes() -> dict[int, str]:
    """What docs/service-contract.md promises of the edge: status -> code."""
    page = (REPOSITORY / "docs/service-contract.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \| (?:edge|both) \|", page, re.MULTILINE)
    assert rows
    return {int(status): code for code, status in rows}


CODES = codes()


def assert_headers(reply: Reply, *, tls: bool = True) -> None:
    """Each security header exactly once; over plain HTTP a promise to use TLS would be wrong."""
    for name, pattern in HEADERS.items():
        if name == "strict-transport-security" and not tls:
            assert reply.all(name) == [], (reply.status, name)
        else:
            assert re.fullmatch(pattern, reply.one(name)), (reply.status, name, reply.all(name))
    for kind in reply.all("content-type"):
        # What is no page may load nothing, even where somebody opens it as one.
        strict = "default-src 'none'; frame-ancestors 'none'"
        assert kind.startswith("text/html") or reply.one("content-security-policy") == strict, (reply.status, kind)
    assert reply.all("server") in ([], ["nginx"])
    assert reply.all("x-powered-by") == []


def envelope(reply: Reply) -> dict[str, Any]:
    """The error that a body holds, which is an envelope with the answer's own request id."""
    assert reply.one("content-type") == "application/json", reply
    assert int(reply.one("content-length")) == len(reply.body)
    parsed = json.loads(reply.body)
    assert set(parsed) == {"error"}
    error: dict[str, Any] = parsed["error"]
    assert set(error) == {"code", "message", "request_id", "details"}
    assert error["request_id"] == reply.one("x-request-id")
    return error


def assert_error(reply: Reply, status: int, *, tls: bool = True) -> None:
    """An error as docs/service-contract.md has it, whoever of edge and service gave it."""
    assert reply.status == status, reply
    assert_headers(reply, tls=tls)
    assert envelope(reply)["code"] == CODES[status]
    assert reply.one("cache-control") == "no-store"
    if status in SAID_WHEN_TO_RETRY:
        assert int(reply.one("retry-after")) >= 1
    else:
        assert reply.all("retry-after") == []
