"""What a client on the network sees: everything here goes through TLS with the installation's own CA."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import re
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath

import pytest
from conftest import Stack
from edge_answers import HEADERS, assert_headers
from edge_wire import Request, Way, ask_1, ask_2
from installation import HTTPS_PORT, ROOT, URL, Answer, answer_of, ask, containers, docker, in_charge

pytestmark = pytest.mark.usefixtures("stack")

CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def assert_secure(answer: Answer) -> None:
    for name, pattern in HEADERS.items():
        assert re.fullmatch(pattern, answer.headers.get(name, "")), (answer.status, name, answer.headers.get(name))


def is_envelope(answer: Answer, code: str) -> bool:
    """Whether it says code; an answer that is no error of ours, or lacks a security header, fails at once."""
    assert_secure(answer)
    error = answer.body["error"]
    assert set(error) == {"code", "message", "request_id", "details"}
    assert error["request_id"] == answer.headers["x-request-id"]
    return bool(error["code"] == code)


def raw_exchange(data: bytes, server_name: str = "localhost") -> Answer:
    """Send bytes over TLS as they are."""
    context = ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        connection.sendall(data)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return answer_of(response)


@pytest.mark.requirement("TST-03")
def test_the_way_of_a_stranger(stack: Stack) -> None:
    """Sign in, create a document, append an entry, read it back."""
    session = stack.sign_in()
    document = ask("/api/v1/documents", "POST", {"title": "First"}, session)
    assert document.status == 201, document
    path = f"/api/v1/documents/{document.body['id']}"
    entry = ask(f"{path}/entries", "POST", {"content": "Hello"}, session)
    assert entry.status == 201, entry
    read = ask(path, headers=session)
    assert [e["content"] for e in read.body["entries"]] == ["Hello"]
    listed = ask("/api/v1/documents", headers=session)
    assert document.body["id"] in [item["id"] for item in listed.body["items"]]


@pytest.mark.requirement("EDGE-01")
@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/documents/deep/link", 200), ("/healthz", 200), ("/api/v1/documents", 401), ("/metrics", 404)],
)
def test_security_headers_on_every_answer(path: str, status: int) -> None:
    answer = ask(path)
    assert answer.status == status
    assert_secure(answer)


@pytest.mark.requirement("WEB-01")
def test_assets_are_kept_for_ever_and_their_page_is_asked_for_again() -> None:
    page = ask("/")
    assert page.headers["cache-control"] == "no-cache"
    assets = set(re.findall(r'"(/assets/[^"]+)"', page.body))
    assert {PurePosixPath(asset).suffix for asset in assets} == set(CONTENT_TYPES)
    for asset in assets:
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", asset), "a name without a hash must not be kept"
        answer = ask(asset)
        assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPES[PurePosixPath(asset).suffix])
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert_secure(answer)
        # Parts are not served: nginx would write the headers of a 416 twice.
        assert ask(asset, headers={"Range": "bytes=99999999-"}).status == 200


def test_preflights_of_allowed_origins_need_no_token() -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = ask("/api/v1/documents", "OPTIONS", headers={"Origin": URL} | asked)
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, URL)
    assert (
        "access-control-allow-origin"
        not in ask("/api/v1/documents", "OPTIONS", headers={"Origin": "https://a.example"} | asked).headers
    )
    # Anything else that says OPTIONS needs one.
    for headers in ({}, {"Origin": URL}, {"Access-Control-Request-Method": "POST"}, {"Access-Control-Request-Method": "a:b"}):
        assert ask("/api/v1/documents", "OPTIONS", headers=headers).status == 401


@pytest.mark.requirement("WEB-01")
def test_a_missing_asset_is_not_kept() -> None:
    answer = ask("/assets/console.000000000000.js")
    assert answer.status == 404
    assert is_envelope(answer, "not_found")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.requirement("MET-02")
@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/api/v1/health/ready", "/internal", "/internal/verify", "/api/v1/no-such-thing"]
)
def test_hidden_paths_do_not_exist_outside(session: dict[str, str], path: str) -> None:
    answer = ask(path, headers=session)
    assert answer.status == 404
    assert is_envelope(answer, "not_found")


@pytest.mark.requirement("MET-02", "BEY-15")
@pytest.mark.parametrize(
    "path", ["/api/v1/%2e%2e/metrics", "/api/../metrics", "/api/v1/..%2f..%2freadyz", "//metrics", "/metrics/"]
)
def test_hidden_paths_stay_hidden_in_other_spellings(session: dict[str, str], path: str) -> None:
    answer = ask(path, headers=session)
    # A path that only looks like a hidden one may be a page of the console, which answers every other path.
    assert answer.status in {400, 404} or answer.body == ask("/").body


@pytest.mark.requirement("EDGE-02")
def test_plain_http_is_sent_to_https() -> None:
    reply = ask_1(Request("/some/where?a=b"), Way.PLAIN)
    assert (reply.status, reply.one("location")) == (308, f"{URL}/some/where?a=b")
    assert_headers(reply, tls=False)


@pytest.mark.requirement("EDGE-01", "WEB-01")
def test_what_has_not_changed_keeps_its_headers() -> None:
    """Browsers store those of a 304 over those of the page."""
    page = ask_1(Request("/"), Way.TLS)
    (asset, *_) = re.findall(r'"(/assets/[^"]+)"', page.body.decode())
    for path in ("/", asset):
        tag = ask_1(Request(path), Way.TLS).one("etag")
        for ask_it in (ask_1, ask_2):
            same = ask_it(Request(path, headers=(("If-None-Match", tag),)), Way.TLS)
            assert (same.status, same.body) == (304, b"")
            assert_headers(same)
            assert same.one("content-security-policy") == page.one("content-security-policy")


@pytest.mark.requirement("BEY-16")
def test_unknown_names_are_refused_in_the_handshake() -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        raw_exchange(b"GET / HTTP/1.0\r\n\r\n", server_name="other.example.com")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_tls_is_refused() -> None:
    """By the edge: this client would speak it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.requirement("EDGE-03", "LOG-01")
def test_request_id_is_kept_when_well_formed_and_replaced_when_not(session: dict[str, str]) -> None:
    for good in (uuid.uuid4().hex, "A.z_0-" + "9" * 122):
        answer = ask("/api/v1/documents", headers=session | {"X-Request-ID": good})
        assert answer.headers["x-request-id"] == good
    for bad in ('"><script>alert(1)', "9" * 129, "a b", "a/b"):
        answer = ask("/api/v1/documents", headers=session | {"X-Request-ID": bad})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"]), bad


@pytest.mark.requirement("SEC-05", "BEY-15")
def test_a_principal_cannot_be_forged(session: dict[str, str], document: str) -> None:
    me = ask("/api/v1/users/me", headers=session).body["id"]
    for name in ("X-Principal-Id", "x-principal-id", "X_Principal_Id", "X-PRINCIPAL-ID"):
        assert ask(f"/api/v1/documents/{document}", headers={name: me}).status == 401
        other = str(uuid.uuid4())
        answer = ask("/api/v1/users/me", headers=session | {name: other})
        assert (answer.status, answer.body["id"]) == (200, me)


@pytest.mark.requirement("SEC-05")
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer x", "Bearer " + "a" * 2000, "Basic YWRtaW46YWRtaW4="])
def test_bad_tokens_are_unauthorized(token: str) -> None:
    answer = ask("/api/v1/documents", headers={"Authorization": token})
    assert answer.status == 401
    assert is_envelope(answer, "unauthorized")


def encoded(data: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.requirement("SEC-11")
def test_a_token_that_anybody_could_make_is_refused(session: dict[str, str]) -> None:
    """The claims are those of a good token, so it is the signature that is refused."""
    assert ask("/api/v1/documents", headers=session).status == 200
    header, claims, signature = session["Authorization"].removeprefix("Bearer ").split(".")
    unsigned = encoded(b'{"alg":"none","typ":"JWT"}')
    longer = encoded(json.dumps(json.loads(decoded(claims)) | {"exp": int(time.time()) + 1_000_000}).encode())
    signed = ".".join([encoded(b'{"alg":"HS256","typ":"JWT"}'), claims])
    forged = [
        f"{unsigned}.{claims}.",
        f"{unsigned}.{claims}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{longer}.{signature}",
    ]
    forged += [f"{signed}.{encoded(hmac.digest(key, signed.encode(), 'sha256'))}" for key in (b"", b"secret", b"x" * 32)]
    for token in forged:
        answer = ask("/api/v1/documents", headers={"Authorization": f"Bearer {token}"})
        assert answer.status == 401, token
        assert is_envelope(answer, "unauthorized")


@pytest.mark.requirement("SEC-07")
def test_a_body_that_is_too_large(session: dict[str, str]) -> None:
    answer = ask("/api/v1/documents", "POST", b"x" * (1024 * 1024 + 1), session)
    assert answer.status == 413
    assert is_envelope(answer, "payload_too_large")


def test_strangers_cannot_send_much() -> None:
    answer = ask("/api/auth/login", "POST", {str(number): 1 for number in range(5000)})
    assert answer.status == 413
    assert is_envelope(answer, "payload_too_large")
    assert ask("/healthz", "POST", b"x" * 100).status == 413
    few = ask("/api/auth/login", "POST", {str(number): 1 for number in range(1000)})
    assert few.status == 422
    assert len(str(few.body)) < 20000


@pytest.mark.parametrize("path", ["/api/auth/login/", "/api/v1/documents/"])
def test_no_answer_leads_to_plain_http(session: dict[str, str], path: str) -> None:
    answer = ask(path, "POST", {"username": "admin", "password": "secret"}, session)
    assert (answer.status, answer.headers.get("location")) == (404, None)


def test_unknown_methods_get_the_envelope(session: dict[str, str]) -> None:
    for path in ("/healthz", "/api/auth/login", "/api/v1/documents"):
        answer = ask(path, "FOO", headers=session)
        assert answer.status == 405
        assert is_envelope(answer, "method_not_allowed")


def test_invalid_input_says_where(session: dict[str, str]) -> None:
    answer = ask("/api/v1/documents", "POST", {"title": 7}, session)
    assert answer.status == 422
    assert is_envelope(answer, "validation_error")
    assert answer.body["error"]["details"][0]["loc"] == ["body", "title"]


@pytest.mark.requirement("DB-05")
def test_the_same_key_writes_once(session: dict[str, str], document: str) -> None:
    path = f"/api/v1/documents/{document}/entries"
    headers = session | {"Idempotency-Key": uuid.uuid4().hex}
    first = ask(path, "POST", {"content": "once"}, headers)
    second = ask(path, "POST", {"content": "once"}, headers)
    assert (first.status, first.body) == (second.status, second.body)
    assert len(ask(f"/api/v1/documents/{document}", headers=session).body["entries"]) == 1


HOST = b"Host: localhost\r\n"


@pytest.mark.requirement("ERR-01", "BEY-13")
@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n%bContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" % HOST, 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n%bIf-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT\r\n\r\n" % HOST, 412, "precondition_failed"),
        (b"GET /%b HTTP/1.1\r\n%b\r\n" % (b"a" * 9000, HOST), 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n", 421, "misdirected_request"),
        (b"GET / HTTP/1.1\r\n%bX-Large: %b\r\n\r\n" % (HOST, b"a" * 9000), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n%b%b\r\n" % (HOST, b"X-Many: a\r\n" * 101), 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\n%bTransfer-Encoding: unknown\r\n\r\n" % HOST, 501, "not_implemented"),
        (b"GET / HTTP/3.0\r\n%b\r\n" % HOST, 505, "http_version_not_supported"),
    ],
    ids=["two lengths", "no host", "changed since", "address", "other host", "header", "headers", "coding", "version"],
)
def test_requests_that_no_service_sees_get_the_envelope(data: bytes, status: int, code: str) -> None:
    answer = raw_exchange(data)
    assert answer.status == status
    assert is_envelope(answer, code)


@contextmanager
def stopped(name: str) -> Iterator[None]:
    """One container stopped; afterwards it is healthy again, so that a deploy finds nothing to do."""
    container = containers()[in_charge(name)]["Id"]
    docker("stop", container)
    try:
        yield
    finally:
        docker("start", container)
        end = time.monotonic() + 60
        while docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
            assert time.monotonic() < end, f"{name} does not get healthy again"
            time.sleep(0.5)


@pytest.mark.requirement("BEY-13")
def test_without_the_gateway_nobody_gets_in_and_the_rest_goes_on(session: dict[str, str]) -> None:
    with stopped("auth"):
        answer = ask("/api/v1/documents", headers=session)
        assert answer.status == 503
        assert is_envelope(answer, "service_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert ask("/healthz").status == 200
        assert ask("/").status == 200
    assert ask("/api/v1/documents", headers=session).status == 200


@pytest.mark.requirement("ERR-01", "BEY-13")
def test_without_the_api_the_edge_answers_for_it(session: dict[str, str]) -> None:
    with stopped("api"):
        for path in ("/api/v1/documents", "/healthz"):
            answer = ask(path, headers=session)
            assert answer.status == 502
            assert is_envelope(answer, "bad_gateway")
            assert int(answer.headers["retry-after"]) >= 1
        assert ask("/api/v1/documents").status == 401
        assert ask("/").status == 200
    assert ask("/api/v1/documents", headers=session).status == 200


@pytest.mark.requirement("RL-09", "RL-10")
def test_sign_in_is_limited_more_strictly_than_the_api(session: dict[str, str]) -> None:
    """Last in this file: it uses up the address's allowance for a moment."""
    with ThreadPoolExecutor(8) as pool:
        wrong = {"username": "nobody", "password": "not the password"}
        logins = list(pool.map(lambda _: ask("/api/auth/login", "POST", wrong), range(40)))
        reads = list(pool.map(lambda _: ask("/api/v1/documents", headers=session), range(12)))
    assert {answer.status for answer in logins} == {401, 429}
    limited = next(answer for answer in logins if answer.status == 429)
    assert is_envelope(limited, "rate_limited")
    assert int(limited.headers["retry-after"]) >= 1
    assert {answer.status for answer in reads} == {200}
