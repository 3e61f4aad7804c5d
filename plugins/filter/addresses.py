"""Addresses and networks in settings, checked before nginx or Docker would refuse them half-way through a deploy."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

# The widest private networks: 10.0.0.0/8 and fc00::/7.
WIDEST = {4: 8, 6: 7}


def address_refusals(addresses: Iterable[object]) -> list[str]:
    """The entries that are no IP address which a host can answer on; one with a zone (fe80::1%eth0) cannot be published."""
    return [str(address) for address in addresses if "%" in str(address) or not _parses(_one_host, address)]


def network_refusals(networks: Iterable[object]) -> list[str]:
    """The entries that are no exact network (an address with a prefix length and no host bits), or hold most of the Internet."""
    return [str(network) for network in networks if not _parses(_some_network, network)]


def _one_host(text: str) -> object:
    address = ipaddress.ip_address(text)
    if address.is_multicast or text == "255.255.255.255":
        raise ValueError("of many hosts")
    return address


def _some_network(text: str) -> object:
    network = ipaddress.ip_network(text)
    if network.prefixlen < WIDEST[network.version]:
        raise ValueError("too wide")
    return network


def in_networks(address: str, networks: Iterable[str]) -> bool:
    """Whether an address, as SSH_CONNECTION or a log writes it, is in one of the networks."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in ipaddress.ip_network(network) for network in networks)


def _parses(parse: Callable[[str], object], text: object) -> bool:
    try:
        parse(str(text))
    except ValueError:
        return False
    return True


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., list[str] | bool]]:
        return {"address_refusals": address_refusals, "network_refusals": network_refusals, "in_networks": in_networks}
