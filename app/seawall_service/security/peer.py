"""Whom to believe: the edge on the other end of the connection, and nobody by what a header says."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

# What of `::ffff:192.0.2.1` says that IPv4 follows.
MAPPED_BITS = 96
# The longest without a scope, which can be of any length.
LONGEST_ADDRESS = 45


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """A socket for IPv4 and IPv6 alike tells IPv4 peers as `::ffff:192.0.2.1`; ValueError for what is no address."""
    return known_address(text) if len(text) <= LONGEST_ADDRESS else parsed_address(text)


def parsed_address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


# Peers and clients come again and again.
known_address = lru_cache(maxsize=4096)(parsed_address)


def plain_network(text: str) -> IPv4Network | IPv6Network:
    """One address is a network, too; ValueError for what is none."""
    network = ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))


class TrustedPeers:
    def __init__(self, allowed: Iterable[str], *, unix_socket: bool) -> None:
        entries = list(allowed)
        self.everybody = "*" in entries
        self.unix_socket = unix_socket
        self.networks = [plain_network(entry) for entry in entries if entry != "*"]

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return self.everybody or (address is not None and any(address in network for network in self.networks))

    def judge(self, scope: Scope, headers: Headers) -> tuple[bool, str | None]:
        """Whether the peer is trusted, and the client's address as far as trusted peers vouch for it."""
        client = scope.get("client")
        if client is None:
            trusted, told = self.unix_socket, None
        else:
            address, told = as_told(client[0])
            trusted = self._trusts(address)
        if not trusted:
            return trusted, told
        # Each proxy adds at the end, to the line that it got or as a line of its own.
        hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",") if hop.strip()]
        for hop in reversed(hops):
            address, told = as_told(hop)
            if not self._trusts(address):
                break
        return trusted, told


def as_told(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    """The address, None where it is none, and how it is written."""
    try:
        address = plain_address(text)
    except ValueError:
        return None, text
    return address, str(address)
