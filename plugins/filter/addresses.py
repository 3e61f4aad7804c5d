"""Addresses and networks in settings, checked before nginx or Docker would refuse them half-way through a deploy."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable


def address_refusals(addresses: Iterable[object]) -> list[str]:
    """The entries that are no IP address."""
    return [str(address) for address in addresses if not _parses(ipaddress.ip_address, address)]


def network_refusals(networks: Iterable[object]) -> list[str]:
    """The entries that are no exact network: not an address with a prefix length and no host bits."""
    return [str(network) for network in networks if not _parses(ipaddress.ip_network, network)]


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
