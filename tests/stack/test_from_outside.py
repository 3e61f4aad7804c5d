"""What a client on the network sees: everything here goes through TLS with the installation's own CA."""

from __future__ import annotations

import re
import socket
import ssl
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Stack
from installation import HTTP_PORT, HTTPS_PORT, ROOT, URL, Answer, ask

pytestmark = pytest.mark.usefixtures("stack")

HEADERS = {
    "strict-transport-security": r"max-age=\d+",
    "x-content-type-options": "nosniff",
    "x-frame-options": "(?i)deny",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'",
    "permissions-policy": ".+",
    "x-request-id": ".{8,}",
}


def is_envelope(answer: Answer, code: str) -> bool:
    error = answer.body["error"]
    assert set(error) == {"code", "message", "request_id", "details"}
    assert error["request_id"] == answer.headers["x-request-id"]
    return bool(error["code"] == code)


def raw_exchange(data: bytes, server_name: str = "localhost") -> bytes:
    """Send bytes over TLS as they are and read until the edge closes."""
    context = ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


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


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/documents/deep/link", 200), ("/healthz", 200), ("/api/v1/documents", 401), ("/metrics", 404)],
)
def test_security_headers_on_every_answer(path: str, status: int) -> None:
    answer = ask(path)
    assert answer.status == status
    for name, pattern in HEADERS.items():
        assert re.match(pattern, answer.headers[name]), (name, answer.headers[name])


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/internal", "/internal/verify", "/api/v1/no-such-thing"])
def test_hidden_paths_do_not_exist_outside(session: dict[str, str], path: str) -> None:
    answer = ask(path, headers=session)
    assert answer.status == 404
    assert is_envelope(answer, "not_found")


@pytest.mark.parametrize(
    "path", ["/api/v1/%2e%2e/metrics", "/api/../metrics", "/api/v1/..%2f..%2freadyz", "//metrics", "/metrics/"]
)
def test_hidden_paths_stay_hidden_in_other_spellings(session: dict[str, str], path: str) -> None:
    answer = ask(path, headers=session)
    # A path that only looks like a hidden one may be a page of the console, which answers every other path.
    assert answer.status in {400, 404} or answer.headers["content-type"].startswith("text/html")
    assert "http_requests_total" not in str(answer.body)


def test_plain_http_is_sent_to_https() -> None:
    answer = ask("/some/where?a=b", port=HTTP_PORT)
    assert (answer.status, answer.headers["location"]) == (308, f"{URL}/some/where?a=b")
    assert "strict-transport-security" not in answer.headers


def test_unknown_names_are_refused_in_the_handshake() -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        raw_exchange(b"GET / HTTP/1.0\r\n\r\n", server_name="other.example.com")


def test_old_tls_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_request_id_is_kept_when_well_formed_and_replaced_when_not(session: dict[str, str]) -> None:
    good = uuid.uuid4().hex
    answer = ask("/api/v1/documents", headers=session | {"X-Request-ID": good})
    assert answer.headers["x-request-id"] == good
    bad = ask("/api/v1/documents", headers=session | {"X-Request-ID": '"><script>alert(1)'})
    assert "script" not in bad.headers["x-request-id"]


def test_a_principal_cannot_be_forged(session: dict[str, str], document: str) -> None:
    me = ask("/api/v1/users/me", headers=session).body["id"]
    for name in ("X-Principal-Id", "x-principal-id", "X_Principal_Id", "X-PRINCIPAL-ID"):
        assert ask(f"/api/v1/documents/{document}", headers={name: me}).status == 401
        other = str(uuid.uuid4())
        answer = ask("/api/v1/users/me", headers=session | {name: other})
        assert (answer.status, answer.body["id"]) == (200, me)


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer x", "Bearer " + "a" * 2000, "Basic YWRtaW46YWRtaW4="])
def test_bad_tokens_are_unauthorized(token: str) -> None:
    answer = ask("/api/v1/documents", headers={"Authorization": token})
    assert answer.status == 401
    assert is_envelope(answer, "unauthorized")


def test_an_unsigned_token_is_refused() -> None:
    none_algorithm = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDAifQ."
    assert ask("/api/v1/documents", headers={"Authorization": f"Bearer {none_algorithm}"}).status == 401


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


def test_the_same_key_writes_once(session: dict[str, str], document: str) -> None:
    path = f"/api/v1/documents/{document}/entries"
    headers = session | {"Idempotency-Key": uuid.uuid4().hex}
    first = ask(path, "POST", {"content": "once"}, headers)
    second = ask(path, "POST", {"content": "once"}, headers)
    assert (first.status, first.body) == (second.status, second.body)
    assert len(ask(f"/api/v1/documents/{document}", headers=session).body["entries"]) == 1


def test_malformed_requests_get_the_envelope() -> None:
    answer = raw_exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_request"' in answer.replace(b'": "', b'":"')


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
