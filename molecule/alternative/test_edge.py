"""What the scenario sets for the edge is what its answers carry, and only a named proxy says who the client is."""

from __future__ import annotations

import http.client
import json
import uuid

from deployed import DOMAIN, PORT, PROJECT, SETTINGS, Host
from steady_client import over_tls


def answer(deployed: Host, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = over_tls(deployed.address, PORT, DOMAIN, deployed.authority)()
    connection.request("GET", path, headers=headers)
    found = connection.getresponse()
    found.read()
    connection.close()
    return found


def test_headers_are_those_that_are_set(deployed: Host) -> None:
    hsts, headers = SETTINGS["edge_hsts"], SETTINGS["edge_headers"]
    assert (hsts["include_subdomains"], hsts["preload"]) == (False, False)
    page = answer(deployed, "/")
    assert page.status == 200
    assert page.headers["Strict-Transport-Security"] == f"max-age={hsts['max_age_seconds']}"
    assert page.headers["Content-Security-Policy"] == headers["console_policy"]
    for name, value in headers.items():
        if name != "console_policy":
            header = name.replace("_", "-")
            assert page.headers[header] == answer(deployed, "/none", Accept="application/json").headers[header] == value, header


def test_a_stranger_does_not_say_who_he_is(deployed: Host) -> None:
    """The header is the one that the proxies of this scenario use, and this client is none of them."""
    request_id = str(uuid.uuid4())
    told = answer(deployed, "/healthz", **{SETTINGS["edge_trusted_proxies"]["header"]: "8.8.8.8", "X-Request-ID": request_id})
    # An address that is not allowed, were it believed.
    assert told.status == 200
    (line,) = [line for line in deployed.must(f"docker logs {PROJECT}-edge-1").splitlines() if request_id in line]
    found = json.loads(line)
    assert found["client"] == found["peer"] != "8.8.8.8"
