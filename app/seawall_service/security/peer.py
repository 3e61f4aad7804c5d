"""Whom to believe: the edge on the other end of the connection, and nobody by what a header says."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope


class TrustedPeers:
    def __init__(self, allowed: Iterable[str], *, unix_socket: bool) -> None:
        self.everybody = False
        self.unix_socket = unix_socket
        self.networks: list[IPv4Network | IPv6Network] = []
        for entry in allowed:
            if entry == "*":
                self.everybody = True
            else:
                self.networks.append(ip_network(entry, strict=False))

    def trusts(self, host: str) -> bool:
        if self.everybody:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def judge(self, scope: Scope, headers: Headers) -> tuple[bool, str | None]:
        """Whether the peer is trusted, and the client's address as far as trusted peers vouch for it."""
        client = scope.get("client")
        if client is None:
            trusted, address = self.unix_socket, None
        else:
            trusted, address = self.trusts(client[0]), client[0]
        if not trusted:
            return trusted, address
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        for hop in reversed(hops):
            address = hop
            if not self.trusts(hop):
                break
        return trusted, address
