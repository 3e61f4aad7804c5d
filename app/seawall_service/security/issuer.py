"""An external issuer's access tokens (OIDC): its public keys are fetched, kept for a while, and asked for again with care."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from seawall_service.errors import SeawallError, ServiceUnavailableError, UnauthorizedError
from seawall_service.logging import log_external_api
from seawall_service.security.jwt import LEEWAY_SECONDS
from seawall_service.security.signing_key import MIN_RSA_BITS, PublicKey
from seawall_service.settings import Settings

log = structlog.get_logger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
REQUIRED_CLAIMS = ["sub", "exp", "iss", "aud"]
# The edge waits two seconds for the answer about a token.
FETCH_SECONDS = 1.5
MAX_ANSWER_BYTES = 262_144
# However many unknown key ids are sent, and however long the issuer is away.
REFETCH_SECONDS = 10.0
# By the kind of a key, never by what a token says of itself; a shared secret ("oct") is none of them.
RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
CURVE_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
OKP_CURVES = frozenset({"Ed25519", "Ed448"})


class IssuerError(SeawallError):
    """The issuer is away, or answers with something else than keys."""


class IssuerKey(NamedTuple):
    public: PublicKey
    algorithms: frozenset[str]


def key_of(jwk: Mapping[str, Any]) -> IssuerKey | None:
    """None for what is no public key to check signatures with."""
    if jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    public: Any
    try:
        match jwk.get("kty"), jwk.get("crv"):
            case "RSA", _:
                public, algorithms = RSAAlgorithm.from_jwk(dict(jwk)), RSA_ALGORITHMS
                if not isinstance(public, RSAPublicKey) or public.key_size < MIN_RSA_BITS:
                    return None
            case "EC", curve if curve in CURVE_ALGORITHMS:
                public, algorithms = ECAlgorithm.from_jwk(dict(jwk)), frozenset({CURVE_ALGORITHMS[curve]})
            case "OKP", curve if curve in OKP_CURVES:
                public, algorithms = OKPAlgorithm.from_jwk(dict(jwk)), frozenset({"EdDSA"})
            case _:
                return None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if "alg" in jwk:
        algorithms &= {str(jwk["alg"])}
    return IssuerKey(public, algorithms) if algorithms else None


def keys_of(document: object) -> dict[str, IssuerKey]:
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise IssuerError("its answer is no set of keys")
    named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("kid"), str)]
    keys = {entry["kid"]: key_of(entry) for entry in named}
    return {name: key for name, key in keys.items() if key is not None}


class Issuer:
    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = settings.oidc_issuer
        self._audience = settings.oidc_audience
        self._keys_url = settings.oidc_jwks_url
        self._keep_seconds = settings.oidc_cache_seconds
        self._pause_seconds = min(REFETCH_SECONDS, settings.oidc_cache_seconds / 2)
        self._clock = clock
        self._keys: dict[str, IssuerKey] = {}
        self._fetched_at = self._asked_at = -float("inf")
        self._fetching = asyncio.Lock()
        # Read once: it takes tens of milliseconds, which no request should wait for.
        self._tls = httpx.create_ssl_context()

    def issued(self, token: str) -> bool:
        """What the token claims, to know who must check it."""
        try:
            return jwt.decode(token, options={"verify_signature": False}).get("iss") == self.name
        except jwt.PyJWTError:
            return False

    async def principal_of(self, token: str) -> UUID:
        """The same UUID for the same subject, always; no two issuers' subjects share one."""
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError as error:
            raise UnauthorizedError("The access token is not valid") from error
        if not isinstance(key_id, str):
            raise UnauthorizedError("The access token names no key")
        key = await self._key(key_id)
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=sorted(key.algorithms),
                issuer=self.name,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise UnauthorizedError("The access token is not valid") from error
        if not claims["sub"]:
            raise UnauthorizedError("The access token is not valid")
        return uuid5(uuid5(NAMESPACE_URL, self.name), claims["sub"])

    async def _key(self, key_id: str) -> IssuerKey:
        key = self._known(key_id)
        # Whoever has a key does not wait for somebody else's question.
        if key is None or (self._is_due(key_id) and not self._fetching.locked()):
            async with self._fetching:
                # Another request may have asked meanwhile.
                if self._is_due(key_id):
                    await self._refetch()
            key = self._known(key_id)
        if key is not None:
            return key
        if self._clock() - self._fetched_at >= self._keep_seconds:
            raise ServiceUnavailableError("The issuer's keys are not available")
        raise UnauthorizedError("The access token is signed with an unknown key")

    def _known(self, key_id: str) -> IssuerKey | None:
        return self._keys.get(key_id) if self._clock() - self._fetched_at < self._keep_seconds else None

    def _is_due(self, key_id: str) -> bool:
        """For an unknown key at once, for a known one from half of its time on, so that an outage has the other half."""
        now = self._clock()
        wanted = self._known(key_id) is None or now - self._fetched_at >= self._keep_seconds / 2
        return wanted and now - self._asked_at >= self._pause_seconds

    async def _refetch(self) -> None:
        self._asked_at = self._clock()
        try:
            async with (
                asyncio.timeout(FETCH_SECONDS),
                httpx.AsyncClient(verify=self._tls, timeout=FETCH_SECONDS, follow_redirects=False) as client,
            ):
                keys = keys_of(await fetch_json(client, self._keys_url or await self._discover(client)))
        except (IssuerError, httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            log.warning("issuer.error", issuer=self.name, reason=str(error) or type(error).__name__)
            return
        self._keys, self._fetched_at = keys, self._clock()

    async def _discover(self, client: httpx.AsyncClient) -> str:
        document = await fetch_json(client, self.name.rstrip("/") + DISCOVERY)
        if not isinstance(document, dict) or document.get("issuer") != self.name:
            raise IssuerError("its discovery document is another issuer's")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or (self.name.startswith("https:") and not url.startswith("https:")):
            raise IssuerError("its discovery document names no safe jwks_uri")
        return url


@log_external_api("oidc", "fetch")
async def fetch_json(client: httpx.AsyncClient, url: str) -> object:
    async with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
        response.raise_for_status()
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise IssuerError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    return json.loads(body)


def build_issuer(settings: Settings) -> Issuer | None:
    return Issuer(settings) if settings.oidc_issuer else None
