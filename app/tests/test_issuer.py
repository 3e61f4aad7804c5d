"""Access tokens of an external issuer: real keys, fetched over real HTTP, kept for a while, and asked for again with care."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from seawall_service.errors import ServiceUnavailableError, UnauthorizedError
from seawall_service.main import create_auth_app
from seawall_service.security.issuer import REFETCH_SECONDS, Issuer
from seawall_service.security.signing_key import PrivateKey
from seawall_service.settings import Settings
from seawall_service.startup_gate import load_settings
from tests.conftest import client_of
from tests.test_auth import login, verify

AUDIENCE = "seawall"
SHARED_SECRET = "0123456789abcdef" * 4


class Handler(BaseHTTPRequestHandler):
    server: "SmallIssuer"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class SmallIssuer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.keys: dict[str, tuple[PrivateKey | str, str]] = {}
        self.say("/.well-known/openid-configuration", {"issuer": self.name, "jwks_uri": f"{self.name}/keys"})
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def say(self, path: str, document: object, status: int = 200) -> None:
        self.answers[path] = (status, json.dumps(document).encode())

    def publish(self, *jwks: dict[str, Any]) -> None:
        self.say("/keys", {"keys": list(jwks)})

    def token(self, key: PrivateKey | str, algorithm: str, kid: str | None, **changes: object) -> str:
        now = int(time.time())
        claims = {"sub": "ada", "iat": now, "exp": now + 60, "iss": self.name, "aud": AUDIENCE} | changes
        headers = {"kid": kid} if kid is not None else None
        present = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(present, key, algorithm=algorithm, headers=headers)


def rsa_jwk(key: rsa.RSAPrivateKey, kid: str, **more: str) -> dict[str, Any]:
    return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, **more}


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def issuer() -> Iterator[SmallIssuer]:
    with SmallIssuer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, issuer: SmallIssuer) -> Settings:
    monkeypatch.setenv("OIDC_ISSUER", issuer.name)
    monkeypatch.setenv("OIDC_AUDIENCE", AUDIENCE)
    return load_settings("auth")


@pytest.fixture
def gateway(configured: Settings) -> Iterator[TestClient]:
    with client_of(create_auth_app(configured)) as client:
        yield client


def test_tokens_of_both_issuers_are_taken(
    gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey, username: str, user_id: str
) -> None:
    issuer.publish(rsa_jwk(rsa_key, "one"))
    principal = uuid5(uuid5(NAMESPACE_URL, issuer.name), "ada")
    for _ in range(3):
        assert verify(gateway, issuer.token(rsa_key, "RS256", "one")) == (204, str(principal), b"")
    assert verify(gateway, login(gateway, username)["access_token"]) == (204, user_id, b"")
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.requirement("LOG-10")
def test_each_question_to_the_issuer_is_a_line(gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey) -> None:
    issuer.publish(rsa_jwk(rsa_key, "one"))
    issuer.answers["/.well-known/openid-configuration"] = (500, b"")
    with capture_logs() as lines:
        assert verify(gateway, issuer.token(rsa_key, "RS256", "one"))[0] == 503
    (line,) = [line for line in lines if line["event"].startswith("external_api.")]
    assert (line["event"], line["api"], line["error"]) == ("external_api.failure", "oidc", "HTTPStatusError")
    assert line["duration_ms"] > 0


def test_a_key_that_says_nonsense_of_itself_spoils_no_other(
    gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey
) -> None:
    for number, nonsense in enumerate([["RS256"], {"a": 1}, 5, None]):
        issuer.publish(rsa_jwk(rsa_key, f"odd-{number}") | {"alg": nonsense}, rsa_jwk(rsa_key, "one"))
    assert verify(gateway, issuer.token(rsa_key, "RS256", "one"))[0] == 204


@pytest.mark.requirement("SEC-11")
def test_every_kind_of_public_key(gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey) -> None:
    elliptic, edwards = ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()
    issuer.publish(
        rsa_jwk(rsa_key, "r"),
        ECAlgorithm.to_jwk(elliptic.public_key(), as_dict=True) | {"kid": "e"},
        OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True) | {"kid": "d"},
    )
    kinds: list[tuple[PrivateKey, str, str]] = [
        (rsa_key, "RS512", "r"), (rsa_key, "PS256", "r"), (elliptic, "ES384", "e"), (edwards, "EdDSA", "d")
    ]  # fmt: skip
    for key, algorithm, kid in kinds:
        assert verify(gateway, issuer.token(key, algorithm, kid))[0] == 204, algorithm


@pytest.mark.parametrize(
    "changes",
    [{"aud": "other"}, {"aud": None}, {"iss": "http://other.example"}, {"exp": 1}, {"exp": None}, {"sub": None},
     {"sub": ""}, {"sub": 7}, {"nbf": 99_999_999_999}],
)  # fmt: skip
def test_bad_claims_are_refused(
    gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey, changes: dict[str, object]
) -> None:
    issuer.publish(rsa_jwk(rsa_key, "one"))
    now = int(time.time())
    claims: dict[str, object] = {"sub": "ada", "iat": now, "exp": now + 60, "iss": issuer.name, "aud": AUDIENCE}
    present = {name: value for name, value in (claims | changes).items() if value is not None}
    # By hand: the library would not encode all of these.
    token = jwt.api_jws.encode(json.dumps(present).encode(), rsa_key, algorithm="RS256", headers={"kid": "one"})
    assert verify(gateway, token)[:2] == (401, None)


@pytest.mark.requirement("SEC-11")
def test_keys_and_algorithms_that_do_not_belong_together_are_refused(
    gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey
) -> None:
    other = rsa.generate_private_key(65537, 2048)
    secret = {"kty": "oct", "k": "MDEyMw", "kid": "shared", "alg": "HS256"}
    issuer.publish(
        rsa_jwk(rsa_key, "one"),
        rsa_jwk(rsa_key, "only-512", alg="RS512"),
        rsa_jwk(rsa_key, "encrypts", use="enc"),
        RSAAlgorithm.to_jwk(other, as_dict=True) | {"kid": "private"},
        secret,
    )
    assert verify(gateway, issuer.token(rsa_key, "RS256", "one"))[0] == 204
    tokens = [
        issuer.token(other, "RS256", "one"),
        issuer.token(rsa_key, "RS256", "only-512"),
        issuer.token(rsa_key, "RS256", "encrypts"),
        issuer.token(other, "RS256", "private"),
        issuer.token(rsa_key, "RS256", None),
        issuer.token(rsa_key, "RS256", "unknown"),
        issuer.token(SHARED_SECRET, "HS256", "shared"),
        issuer.token(SHARED_SECRET, "HS256", "one"),
        issuer.token("", "none", "one"),
    ]
    assert [verify(gateway, token)[0] for token in tokens] == [401] * len(tokens)
    # However many unknown keys are named, the issuer is asked once in ten seconds.
    assert issuer.asked.count("/keys") == 1


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/keys", 500, b"{}"),
        ("/keys", 200, b"not json"),
        ("/keys", 200, b'{"keys": 7}'),
        ("/keys", 200, b"[]"),
        ("/keys", 200, b" " * 300_000),
        ("/keys", 302, b""),
        ("/.well-known/openid-configuration", 404, b"{}"),
        ("/.well-known/openid-configuration", 200, b'{"issuer": "http://other.example", "jwks_uri": "http://other.example"}'),
    ],
)
def test_an_issuer_without_keys_is_503_and_not_asked_by_every_request(
    gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey, path: str, status: int, body: bytes
) -> None:
    issuer.publish(rsa_jwk(rsa_key, "one"))
    issuer.answers[path] = (status, body)
    headers = {"Authorization": f"Bearer {issuer.token(rsa_key, 'RS256', 'one')}"}
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            answer = gateway.get("/internal/verify", headers=headers)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json()["error"]["code"] == "service_unavailable"
    assert issuer.asked.count(path) == 1
    assert len([line for line in lines if line["event"] == "issuer.error"]) == 1


def test_good_keys_in_the_wrong_place_or_in_an_endless_answer_are_not_taken(
    gateway: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey
) -> None:
    issuer.publish(rsa_jwk(rsa_key, "one"))
    _, good = issuer.answers["/elsewhere"] = issuer.answers["/keys"]
    for status, body in ((302, b""), (200, good + b" " * 300_000)):
        issuer.answers["/keys"] = status, body
        with client_of(create_auth_app(load_settings("auth"))) as fresh:
            assert verify(fresh, issuer.token(rsa_key, "RS256", "one"))[0] == 503
    assert "/elsewhere" not in issuer.asked
    issuer.answers["/keys"] = 200, good
    assert verify(gateway, issuer.token(rsa_key, "RS256", "one"))[0] == 204


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(configured: Settings, clock: Clock) -> Issuer:
    return Issuer(configured, clock)


def asks(known: Issuer, *tokens: str) -> list[UUID | type[Exception]]:
    async def ask(token: str) -> UUID | type[Exception]:
        try:
            return await known.principal_of(token)
        except (UnauthorizedError, ServiceUnavailableError) as error:
            return type(error)

    async def all_at_once() -> list[UUID | type[Exception]]:
        return await asyncio.gather(*(ask(token) for token in tokens))

    return asyncio.run(all_at_once())


def test_a_new_key_of_the_issuer_is_found(known: Issuer, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey, clock: Clock) -> None:
    new_key = rsa.generate_private_key(65537, 2048)
    old, new = issuer.token(rsa_key, "RS256", "old"), issuer.token(new_key, "RS256", "new")
    issuer.publish(rsa_jwk(rsa_key, "old"))
    principal = asks(known, old)[0]
    assert isinstance(principal, UUID)
    issuer.publish(rsa_jwk(rsa_key, "old"), rsa_jwk(new_key, "new"))
    assert asks(known, new) == [UnauthorizedError]
    clock.now += REFETCH_SECONDS
    assert asks(known, *[new] * 5, old) == [principal] * 6
    assert issuer.asked.count("/keys") == 2
    # A key that the issuer has withdrawn is forgotten in time, too.
    issuer.publish(rsa_jwk(new_key, "new"))
    clock.now += 150
    assert asks(known, new) == [principal]
    assert asks(known, old) == [UnauthorizedError]


def test_an_outage_of_the_issuer_is_not_noticed_for_half_of_the_time(
    known: Issuer, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey, clock: Clock
) -> None:
    token = issuer.token(rsa_key, "RS256", "one")
    issuer.publish(rsa_jwk(rsa_key, "one"))
    principal = asks(known, token)[0]
    issuer.say("/keys", {}, 500)
    for _ in range(14):
        clock.now += 20
        assert asks(known, token) == [principal]
    # Asked at first, and again by every request of the second half.
    assert issuer.asked.count("/keys") == 1 + 7
    clock.now += 20
    assert asks(known, token) == [ServiceUnavailableError]
    issuer.publish(rsa_jwk(rsa_key, "one"))
    clock.now += REFETCH_SECONDS
    assert asks(known, token) == [principal]


def test_without_an_issuer_its_tokens_are_nobodys(auth: TestClient, issuer: SmallIssuer, rsa_key: rsa.RSAPrivateKey) -> None:
    issuer.publish(rsa_jwk(rsa_key, "one"))
    assert verify(auth, issuer.token(rsa_key, "RS256", "one"))[:2] == (401, None)
    assert issuer.asked == []
