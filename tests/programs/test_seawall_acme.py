"""What the authority or certbot says becomes a sentence with the name and the cure."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import seawall_acme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from seawall_acme import ATTEMPTS, AcmeError, Wanted, certbot, reason, run

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
    monkeypatch.setattr(seawall_acme, "STATE", tmp_path / "state")
    wanted = Wanted(["a.example"], URL, "", "")
    if fails < ATTEMPTS:
        certbot(wanted, force=False)
    else:
        with pytest.raises(AcmeError, match=said.split(":", maxsplit=1)[0]):
            certbot(wanted, force=False)
    assert len(calls.read_text(encoding="utf-8").split()) == asked


@pytest.fixture
def lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything below one directory, with a certbot that keeps what is there and writes down how it was called."""
    for name, path in {"CONFIG": "config", "STATE": "state", "ISSUED": "issued/certificate.json"}.items():
        monkeypatch.setattr(seawall_acme, name, tmp_path / path)
    for directory in ("config", "issued"):
        (tmp_path / directory).mkdir()
    (tmp_path / "certbot").write_text(f'#!/bin/sh\necho "$@" CA=$REQUESTS_CA_BUNDLE >{tmp_path}/asked\n', encoding="utf-8")
    (tmp_path / "certbot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    want(tmp_path)
    found = tmp_path / "state/acme.example_directory/live/seawall"
    found.mkdir(parents=True)
    return found


def want(directory: Path, profile: str = "") -> None:
    wanted = {"names": ["b.example", "a.example"], "directory_url": URL, "email": "", "profile": profile}
    (directory / "config/wanted.json").write_text(json.dumps(wanted), encoding="utf-8")


def issue(lineage: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number()).not_valid_before(now)
    names = x509.SubjectAlternativeName([x509.DNSName("b.example"), x509.DNSName("a.example")])
    builder = builder.not_valid_after(now + timedelta(days=1)).add_extension(names, critical=False)
    (lineage / "fullchain.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (lineage / "privkey.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_what_is_issued_is_handed_over_once_and_for_its_reader_only(lineage: Path, tmp_path: Path) -> None:
    issue(lineage)
    run(force=False)
    issued = tmp_path / "issued/certificate.json"
    found = json.loads(issued.read_text(encoding="utf-8"))
    assert (found["names"], found["directory_url"], found["profile"]) == (["a.example", "b.example"], URL, "")
    assert found["private_key"] == (lineage / "privkey.pem").read_text(encoding="ascii")
    assert issued.stat().st_mode & 0o777 == 0o600
    before = issued.stat().st_ino
    run(force=False)
    assert issued.stat().st_ino == before, "the same was handed over again"
    issue(lineage)
    run(force=False)
    assert json.loads(issued.read_text(encoding="utf-8"))["serial"] != found["serial"]


def test_a_key_that_is_not_the_certificates_is_not_handed_over(lineage: Path, tmp_path: Path) -> None:
    issue(lineage)
    other = (lineage / "privkey.pem").read_bytes()
    issue(lineage)
    (lineage / "privkey.pem").write_bytes(other)
    with pytest.raises(AcmeError, match="is not that of the certificate"):
        run(force=False)
    assert list((tmp_path / "issued").iterdir()) == []


# Does not renew before it may ask again, and writes that down before it renews: as certbot does.
PATIENT = """#!/bin/sh
echo "$(grep --count ari_retry_after {conf})" >>{directory}/found
grep --quiet ari_retry_after {conf} && exit 0
printf '[acme_renewal_info]\\nari_retry_after = 2999-01-01T00:00:00\\n' >>{conf}
{then}
"""
OWN_SETTINGS = "version = 5.8.0\n[renewalparams]\naccount = 1\n[[webroot_map]]\na.example = /challenges\n"


@pytest.mark.parametrize(
    ("then", "fails"),
    [("exit 1", True), ("echo anti-replay nonce; exit 1", True), ("exit 0", False)],
    ids=["fails", "stale", "renews"],
)
def test_a_renewal_that_failed_is_tried_by_the_next_run_whenever_certbot_may_ask_again(
    lineage: Path, tmp_path: Path, then: str, fails: bool
) -> None:
    issue(lineage)
    conf = tmp_path / "state/acme.example_directory/renewal/seawall.conf"
    conf.parent.mkdir()
    conf.write_text(OWN_SETTINGS, encoding="utf-8")
    program = PATIENT.format(conf=conf, directory=tmp_path, then=then)
    (tmp_path / "certbot").write_text(program, encoding="utf-8")
    for _ in range(2):
        if fails:
            with pytest.raises(AcmeError):
                run(force=False)
        else:
            run(force=False)
    found = (tmp_path / "found").read_text(encoding="utf-8").split()
    assert set(found) == ({"0"} if fails else {"0", "1"})
    assert conf.read_text(encoding="utf-8").startswith(OWN_SETTINGS)
    assert conf.read_text(encoding="utf-8").count("ari_retry_after") == 1


def test_a_run_that_was_killed_counts_as_one_that_failed(lineage: Path, tmp_path: Path) -> None:
    issue(lineage)
    (tmp_path / "certbot").write_text("#!/bin/sh\nkill -9 $PPID\n", encoding="utf-8")
    conf = tmp_path / "state/acme.example_directory/renewal/seawall.conf"
    conf.parent.mkdir()
    conf.write_text(
        f"{OWN_SETTINGS}[acme_renewal_info]\nari_retry_after = 2999-01-01T00:00:00\n[other]\nkept = 1\n", encoding="utf-8"
    )
    child = os.fork()
    if not child:
        try:
            run(force=False)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    (tmp_path / "certbot").write_text("#!/bin/sh\n", encoding="utf-8")
    run(force=False)
    assert conf.read_text(encoding="utf-8") == f"{OWN_SETTINGS}[other]\nkept = 1\n"


def test_what_certbot_is_asked_for(lineage: Path, tmp_path: Path) -> None:
    def asked(*, force: bool = False) -> list[str]:
        run(force=force)
        return (tmp_path / "asked").read_text(encoding="utf-8").split()

    issue(lineage)
    words = asked()
    assert [words[at + 1] for at, word in enumerate(words) if word == "--domain"] == ["b.example", "a.example"]
    assert "--keep-until-expiring" in words
    assert f"CA={seawall_acme.AUTHORITIES}" in words
    assert "--force-renewal" in asked(force=True)
    # One that lives for another time is wanted, which certbot does not see by itself.
    want(tmp_path, profile="shortlived")
    assert {"--force-renewal", "--required-profile=shortlived"} <= set(asked())
    assert "--keep-until-expiring" in asked()
    (tmp_path / "config/ca_bundle.pem").touch()
    assert f"CA={seawall_acme.AUTHORITIES}" in asked()
    (tmp_path / "config/ca_bundle.pem").write_text("one", encoding="ascii")
    assert f"CA={tmp_path}/config/ca_bundle.pem" in asked()
