"""What others say of the edge: gixy of its configuration, testssl.sh of its TLS, and a new OpenSSL of its handshakes."""

from __future__ import annotations

import json
import re
import socket
import ssl

import pytest
from edge_configuration import dump, found_by_gixy
from edge_wire import Way, connected, tls_context
from installation import HTTPS_PORT, ROOT
from judges import judge

pytestmark = pytest.mark.usefixtures("stack")

# What testssl.sh may find, and why that is none of the edge's doing.
KNOWN = {
    "cert_revocation": "an own authority publishes no list: what it has issued is replaced, not revoked",
}
WEAKNESS = {"LOW", "MEDIUM", "HIGH", "CRITICAL"}
S_CLIENT = ("openssl", "s_client", "-connect", f"127.0.0.1:{HTTPS_PORT}", "-servername", "localhost")


def test_gixy_finds_nothing() -> None:
    assert found_by_gixy(dump()) == []


def test_gixy_would_find_something() -> None:
    assert found_by_gixy(dump().replace("nosniff", "$http_x_worse").replace("server_tokens off", "server_tokens on"))


@pytest.fixture(scope="module")
def testssl() -> dict[str, dict[str, str]]:
    """Everything that testssl.sh has looked at: id -> severity and finding."""
    # All that its rating needs and all weaknesses; what else it does is to play the clients of the world.
    options = "--protocols --std --fs --server-defaults --server-preference --headers --vulnerable"
    options += " --quiet --color 0 --warnings batch --ip 127.0.0.1 --nodns none --add-ca /ca.pem --jsonfile /tmp/found.json"
    program = f"testssl {options} https://localhost:{HTTPS_PORT} >/tmp/said 2>&1; cat /tmp/found.json"
    said = judge("sh", "-c", program, mounts=(f"{ROOT}/tls/ca.pem:/ca.pem",), seconds=900)
    return {entry["id"]: entry for entry in json.loads(said)}


@pytest.mark.requirement("BEY-16")
def test_testssl_rates_it_best(testssl: dict[str, dict[str, str]]) -> None:
    """With the installation's authority among those that it trusts."""
    assert testssl["cert_chain_of_trust"]["finding"] == "passed."
    assert testssl["overall_grade"]["finding"] == "A+"


@pytest.mark.requirement("BEY-16")
def test_testssl_finds_no_weakness(testssl: dict[str, dict[str, str]]) -> None:
    assert len(testssl) > 100, "it did not look at all"
    found = {name: entry for name, entry in testssl.items() if entry["severity"] in WEAKNESS and name not in KNOWN}
    assert found == {}


def handshake(*options: str) -> str:
    """What OpenSSL's client of the judges' image says of a handshake; it ends when it has nothing to send."""
    return judge("sh", "-c", f"{' '.join([*S_CLIENT, *options])} 2>&1 </dev/null")


@pytest.mark.requirement("BEY-16")
@pytest.mark.parametrize(
    ("offered", "group"),
    [
        # What a client of today offers by itself.
        (None, "X25519MLKEM768"),
        ("X25519MLKEM768:X25519", "X25519MLKEM768"),
        ("X25519:P-256", "X25519"),
        ("P-384:P-256", "secp384r1"),
    ],
)
def test_the_key_exchange_is_post_quantum_where_the_client_knows_it(offered: str | None, group: str) -> None:
    said = handshake("-tls1_3", *(("-groups", offered) if offered else ()))
    agreed = re.search(r"^(?:Negotiated TLS1.3 group|Peer Temp Key): (?:ECDH, )?(\w+)", said, re.MULTILINE)
    assert agreed, said
    assert agreed[1] == group


@pytest.mark.requirement("BEY-16")
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(version: str) -> None:
    said = handshake(version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in said, said
    assert "no peer certificate available" in said


@pytest.mark.requirement("BEY-16")
@pytest.mark.parametrize("name", ["other.example", None], ids=["unknown", "none"])
def test_a_handshake_for_no_name_of_ours_is_refused_without_a_certificate(name: str | None) -> None:
    options = ("-servername", name) if name else ("-noservername",)
    said = judge("sh", "-c", f"{' '.join([*S_CLIENT[:4], *options])} 2>&1 </dev/null")
    assert "unrecognized name" in said, said
    assert "no peer certificate available" in said


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)],
)
def test_http_2_is_chosen_by_the_handshake(offered: list[str], chosen: str | None) -> None:
    with connected(Way.TLS, offered) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.selected_alpn_protocol() == chosen


def test_a_protocol_that_the_edge_does_not_speak_is_refused() -> None:
    context = tls_context()
    context.set_alpn_protocols(["smtp"])
    with (
        socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
