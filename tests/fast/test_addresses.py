"""What is no address or exact network is found before nginx or Docker refuse it half-way through a deploy."""

from __future__ import annotations

import pytest
from addresses import address_refusals, in_networks, network_refusals


@pytest.mark.parametrize("text", ["203.0.113.7", "::", "2001:db8::1"])
def test_addresses_pass(text: str) -> None:
    assert address_refusals([text]) == []


@pytest.mark.parametrize("text", ["everywhere", "", "203.0.113.300", "203.0.113.7/32", "[::1]", "fe80::1%eth0", 5.5])
def test_anything_else_is_no_address(text: object) -> None:
    assert address_refusals([text, "::1"]) == [str(text)]


@pytest.mark.parametrize("text", ["255.255.255.255", "224.0.0.1", "ff02::1"])
def test_an_address_of_many_hosts_is_none_to_answer_on(text: str) -> None:
    assert address_refusals([text]) == [text]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("198.51.100.0/24", False),
        ("10.0.0.0/8", False),
        ("fc00::/7", False),
        ("10.0.0.1/8", True),
        ("10.0.0.0/33", True),
        ("lan", True),
        ("0.0.0.0/0", True),
        ("128.0.0.0/1", True),
        ("::/0", True),
    ],
)
def test_networks_are_exact_and_not_everybody(text: str, *, refused: bool) -> None:
    assert network_refusals([text]) == ([text] if refused else [])


def test_an_address_in_a_network_however_it_is_written() -> None:
    networks = ["198.51.100.0/24", "fe80::/10"]
    assert in_networks("198.51.100.7", networks)
    assert in_networks("::ffff:198.51.100.7", networks)
    assert in_networks("fe80::1%eth0", networks)
    assert not in_networks("203.0.113.1", networks)
