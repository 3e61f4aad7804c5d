"""Which rules a request or a socket is counted by: one over the whole API, and one of its route."""

import re
from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from starlette.routing import compile_path

from seawall_service.feature_settings import RateLimitSettings
from seawall_service.rate_limit.client import Client, address_key
from seawall_service.rate_limit.interface import FixedWindow, Hit, TokenBucket

API = "/api/v1/"
AUTH = "/api/auth/"
# Probes must not depend on what clients do; the other ones, scrapes and documentation are outside of both paths (RL-05).
EXEMPT = frozenset({"/api/v1/health/live", "/api/v1/health/ready"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
UNMATCHED = "unmatched"

# How many times stricter than RATE_LIMIT_PER_MINUTE_DEFAULT and RATE_LIMIT_BURST_DEFAULT.
WRITES_STRICTER = 2
AUTH_STRICTER = 6
# Behind one address there may be an office of users.
USERS_PER_ADDRESS = 4


def stricter(rule: TokenBucket, times: int) -> TokenBucket:
    return TokenBucket(max(1, rule.per_minute // times), max(1, rule.burst // times))


class RateLimitPolicies:
    def __init__(self, settings: RateLimitSettings, templates: Iterable[str] = ()) -> None:
        """`templates` are the paths of the routes; whatever matches none of them is one route together."""
        self.window = FixedWindow(settings.rate_limit_requests, settings.rate_limit_window_seconds)
        self.reads = TokenBucket(settings.rate_limit_per_minute_default, settings.rate_limit_burst_default)
        self.writes = stricter(self.reads, WRITES_STRICTER)
        self.auth = stricter(self.reads, AUTH_STRICTER)
        distinct = dict.fromkeys(templates)
        self._plain = frozenset(template for template in distinct if "{" not in template)
        self._patterns: list[tuple[re.Pattern[str], str]] = [
            (compile_path(template)[0], template) for template in distinct if "{" in template
        ]

    def route_of(self, path: str) -> str:
        if path in self._plain:
            return path
        return next((template for pattern, template in self._patterns if pattern.match(path)), UNMATCHED)

    @staticmethod
    def applies(path: str) -> bool:
        return path.startswith((API, AUTH)) and path not in EXEMPT

    def request_hits(self, method: str, path: str, client: Client) -> list[Hit]:
        """For a path that `applies`. Signing in is limited by address alone: a token must not buy more guesses."""
        route = self.route_of(path)
        if path.startswith(AUTH):
            rule, kind, who = self.auth, "auth", client.address
        elif method in READS:
            rule, kind, who = self.reads, "read", client.key
        else:
            rule, kind, who = self.writes, "write", client.key
        return [Hit(f"{client.key}:api", self.window), Hit(f"{who}:{kind}:{route}", rule)]

    def socket_hits(self, user_id: UUID | None, address: str | None, action: Literal["connect", "message"]) -> list[Hit]:
        """To open a socket counts as a write, a message as a read; by user, where one is known, and by address (WS-06)."""
        rule = self.writes if action == "connect" else self.reads
        shared = TokenBucket(rule.per_minute * USERS_PER_ADDRESS, rule.burst * USERS_PER_ADDRESS)
        hits = [Hit(f"{address_key(address)}:ws:{action}", shared)]
        if user_id is not None:
            hits.append(Hit(f"user:{user_id}:ws:{action}", rule))
        return hits
