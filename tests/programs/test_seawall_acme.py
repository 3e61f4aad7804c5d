"""What the authority or certbot says becomes a sentence with the name and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from seawall_acme import ATTEMPTS, AcmeError, Wanted, certbot, reason

URL = "https://acme.example/directory"
REFUSED = """
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  {label}: api.example.com
  Type:   {kind}
  Detail: 192.0.2.1: {detail}

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
Ask for help or search for solutions at https://community.example. See the logfile /tmp/logs/letsencrypt.log.
"""
BROKEN = """Saving debug log to /tmp/logs/letsencrypt.log
Account registered.
An unexpected error occurred:
Error creating new order :: too many certificates already issued, retry after 2026-12-01
Ask for help or search for solutions at https://community.example.
"""


@pytest.mark.parametrize("label", ["Domain", "Identifier"])
@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        ("connection", "http://api.example.com/ must reach the edge"),
        ("dns", "must lead to this host"),
        ("unauthorized", "Somebody else answered"),
        ("caa", "CAA record"),
        ("rateLimited", "Wait until"),
        ("something", "calls this something"),
    ],
)
def test_a_refusal_names_the_name_the_detail_and_the_cure(label: str, kind: str, cure: str) -> None:
    said = reason(REFUSED.format(label=label, kind=kind, detail="Connection refused"), URL)
    assert said.startswith("api.example.com: 192.0.2.1: Connection refused. ")
    assert cure in said


def test_each_refusal_is_told_once() -> None:
    refused = REFUSED.format(label="Domain", kind="dns", detail="none")
    assert reason(refused * 2, URL) == reason(refused, URL)


@pytest.mark.parametrize("detail", ["{braces}", "50% {name} $x"])
def test_words_of_the_authority_are_only_words(detail: str) -> None:
    assert detail in reason(REFUSED.format(label="Domain", kind="dns", detail=detail), URL)


def test_what_is_no_refusal_is_told_with_the_authority() -> None:
    said = reason(BROKEN, URL)
    assert said.startswith(f"{URL} did not issue it: Error creating new order :: too many certificates")
    assert "Ask for help" not in said
    assert "Account registered" not in said
    assert reason("", URL) == f"{URL} did not issue it: certbot said nothing."


def test_each_authority_has_its_own_state() -> None:
    urls = ["https://acme.example/directory", "https://acme.example:14000/directory", "https://acme.example/other/../directory"]
    states = {Wanted([], url, "", "").state() for url in urls}
    assert len(states) == len(urls)
    assert {state.parent.name for state in states} == {"state"}
    assert all(state.name not in {"", ".", ".."} for state in states)


@pytest.mark.parametrize(
    ("said", "fails", "asked"),
    [
        ("JWS has an invalid anti-replay nonce: x", 1, 2),
        ("JWS has an invalid anti-replay nonce: x", 9, ATTEMPTS),
        ("Error creating new order :: rejected", 9, 1),
    ],
    ids=["stale once", "stale for ever", "refused"],
)
def test_only_a_stale_nonce_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fails: int, asked: int
) -> None:
    program = tmp_path / "certbot"
    calls = tmp_path / "calls"
    program.write_text(
        f"#!/bin/sh\necho x >>{calls}\n[ $(wc -l <{calls}) -gt {fails} ] || {{ echo '{said}'; exit 1; }}\n", encoding="utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    wanted = Wanted(["a.example"], URL, "", "")
    if fails < ATTEMPTS:
        certbot(wanted, force=False)
    else:
        with pytest.raises(AcmeError, match=said.split(":", maxsplit=1)[0]):
            certbot(wanted, force=False)
    assert len(calls.read_text(encoding="utf-8").split()) == asked
