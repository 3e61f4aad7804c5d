"""Whom a request is counted for: a user whose identity was proved, else an address (RL-04)."""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_network
from typing import Literal, NamedTuple
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import Scope

from seawall_service.security.peer import plain_address
from seawall_service.security.principal import HEADER, parse_principal

# One customer usually owns that many bits of IPv6, and could otherwise use a new address for every request.
IPV6_PREFIX = 64
UNKNOWN = "ip:unknown"

type Identify = Callable[[Scope, Headers], UUID | None]


class Client(NamedTuple):
    """`key` names the user or the address, `address` always the address; both begin with what they are."""

    key: str
    address: str


@lru_cache(maxsize=4096)
def address_key(address: str | None) -> str:
    """Whatever is no address shares one key: nobody gets a new limit by sending nonsense."""
    try:
        parsed = plain_address(address or "")
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, IPv6Address):
        return f"ip:{ip_network((int(parsed), IPV6_PREFIX), strict=False)}"
    return f"ip:{parsed}"


def principal_of_edge(scope: Scope, headers: Headers) -> UUID | None:
    """The user that the edge names. A stranger's header names nobody; nor does a token, which only the gateway can check."""
    values = headers.getlist(HEADER)
    if len(values) != 1 or not scope["state"].get("peer_trusted"):
        return None
    return parse_principal(values[0])


class Clients:
    def __init__(self, strategy: Literal["ip", "user_or_ip"], identify: Identify) -> None:
        self._identify = identify
        self._by_user = strategy == "user_or_ip"

    def user_of(self, scope: Scope) -> UUID | None:
        return self._identify(scope, Headers(scope=scope))

    def of(self, scope: Scope) -> Client:
        address = address_key(scope["state"].get("client_ip"))
        user_id = self.user_of(scope) if self._by_user else None
        return Client(f"user:{user_id}" if user_id else address, address)
