"""The host's program takes over only what it can use, and leaves what serves as it is when it cannot."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import seawall_certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from seawall_certificate import CertificateError, Installation, bring_into_use, fits, main, read_issued

WANTED = {"names": ["a.example", "b.example"], "directory_url": "https://a.example/dir", "email": "", "profile": ""}


def pair(name: str = "a.example") -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime.now(UTC))
    certificate = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1)).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private.decode()


def issue(installation: Installation, **changes: object) -> dict[str, Any]:
    fullchain, private_key = pair()
    issued: dict[str, Any] = {
        "names": WANTED["names"],
        "directory_url": WANTED["directory_url"],
        "profile": "",
        "not_after": "29991231235959Z",
    }
    issued |= {"fullchain": fullchain, "private_key": private_key} | changes
    path = installation.root / "acme/issued/certificate.json"
    path.write_text(json.dumps(issued), encoding="utf-8")
    return issued


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """One that serves a pair from elsewhere, and whose edge does not run."""
    for directory in ("acme/config", "acme/issued", "tls/pairs/first"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "acme/config/wanted.json").write_text(json.dumps(WANTED), encoding="utf-8")
    for file, content in zip(("fullchain.pem", "privkey.pem"), pair(), strict=True):
        (tmp_path / "tls/pairs/first" / file).write_text(content, encoding="ascii")
        (tmp_path / "tls" / file).symlink_to(f"current/{file}")
    (tmp_path / "tls/current").symlink_to("pairs/first")
    (tmp_path / "tls/ca.pem").write_text("of the host's own", encoding="ascii")
    return Installation(tmp_path, "shop", "a.example", os.getuid())


def in_use(installation: Installation) -> tuple[str, str]:
    directory = installation.tls / "current"
    return (directory / "fullchain.pem").read_text(encoding="ascii"), (directory / "privkey.pem").read_text(encoding="ascii")


def test_what_was_issued_replaces_what_was_there_with_its_key(installation: Installation) -> None:
    issued = issue(installation)
    assert bring_into_use(installation)
    assert in_use(installation) == (issued["fullchain"], issued["private_key"])
    assert (installation.tls / "privkey.pem").stat().st_mode & 0o777 == 0o400
    origin = json.loads((installation.tls / "current/origin.json").read_text(encoding="utf-8"))
    assert origin == {key: value for key, value in issued.items() if key not in {"fullchain", "private_key"}}
    assert not (installation.tls / "ca.pem").exists()
    assert len(list((installation.tls / "pairs").iterdir())) == 1
    # And once it is in use there is nothing to do.
    assert not bring_into_use(installation)


def test_a_pair_from_elsewhere_that_is_the_same_is_told_where_it_is_from(installation: Installation) -> None:
    fullchain, private_key = in_use(installation)
    issue(installation, fullchain=fullchain, private_key=private_key)
    assert bring_into_use(installation)
    assert (installation.tls / "current/origin.json").exists()


@pytest.mark.parametrize(
    "changes",
    [{"names": ["a.example"]}, {"directory_url": "https://b.example/dir"}, {"not_after": "20200101000000Z"}],
    ids=["other names", "another authority", "expired"],
)
def test_what_is_not_wanted_any_more_is_left_alone(installation: Installation, changes: dict[str, object]) -> None:
    before = in_use(installation)
    issued = issue(installation, **changes)
    assert not fits(issued, WANTED)
    assert not bring_into_use(installation)
    assert in_use(installation) == before


@pytest.mark.parametrize("changes", [{"private_key": pair()[1]}, {"private_key": "no key"}, {"fullchain": "none"}])
def test_a_pair_that_openssl_refuses_is_not_used(installation: Installation, changes: dict[str, object]) -> None:
    before = in_use(installation)
    issue(installation, **changes)
    with pytest.raises(ssl.SSLError):
        bring_into_use(installation)
    assert in_use(installation) == before
    assert [path.name for path in (installation.tls / "pairs").iterdir()] == ["first"]


def test_a_file_of_somebody_else_is_not_read_through_a_link(installation: Installation) -> None:
    path = installation.root / "acme/issued/certificate.json"
    secret = installation.root / "secret.json"
    issue(installation)
    path.rename(secret)
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        read_issued(installation)
    path.unlink()
    path.hardlink_to(secret)
    with pytest.raises(CertificateError, match="remove it"):
        read_issued(installation)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CertificateError, match="remove it"):
        read_issued(installation)


@pytest.mark.parametrize("content", ["[]", "{}", '{"names": []}'])
def test_what_is_no_certificate_is_told(installation: Installation, content: str) -> None:
    (installation.root / "acme/issued/certificate.json").write_text(content, encoding="utf-8")
    with pytest.raises(CertificateError, match="remove it"):
        read_issued(installation)


def test_a_certificate_that_nginx_refuses_is_taken_back(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_use(installation)
    issue(installation)
    monkeypatch.setattr(seawall_certificate, "served", lambda _: b"another one")
    refusal = subprocess.CompletedProcess([], 1, "", "cannot load certificate")
    monkeypatch.setattr(Installation, "compose", lambda *_, **__: refusal)
    with pytest.raises(CertificateError, match="cannot load certificate"):
        bring_into_use(installation)
    assert in_use(installation) == before
    assert (installation.tls / "ca.pem").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"not_after": "20200101000000Z"}, "until 20200101000000Z"), ({"names": ["c.example"]}, "for c.example"), ({}, "")],
    ids=["expired", "other names", "good"],
)
def test_what_the_authority_issues_and_nobody_can_use_is_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], told: str
) -> None:
    """Such as where the clock is wrong: asked again and again, the authority would stop answering."""
    before = in_use(installation)
    monkeypatch.setattr(
        seawall_certificate, "ask_authority", lambda where, *, force: issue(where, not_forced=not force, **changes)
    )
    if told:
        with pytest.raises(CertificateError, match=told):
            seawall_certificate.run(installation, "renew", force=False)
        assert in_use(installation) == before
    else:
        assert seawall_certificate.run(installation, "renew", force=False) == {"changed": True}


@pytest.mark.parametrize("arguments", [[], ["/opt/x"], ["/opt/x", "dance"], ["/opt/x", "install", "--force"]])
def test_what_it_cannot_do_it_says(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert "usage: seawall-certificate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ['{"project": "shop"}', '{"project": "shop", "domain": "a.example", "edge_uid": 0, "more": 1}']
)
def test_with_an_installation_of_another_state_it_says_so(
    installation: Installation, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (installation.root / "acme/config/installation.json").write_text(content, encoding="utf-8")
    assert main([str(installation.root), "check"]) == 1
    assert "./seawall deploy" in capsys.readouterr().err


def test_without_an_installation_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "check"]) == 1
    assert capsys.readouterr().err.startswith("seawall-certificate: ")


@pytest.mark.parametrize("takes", [True, False], ids=["nginx takes it", "nginx refuses it"])
def test_an_edge_that_serves_another_one_is_asked_to_look_and_then_to_load(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    issued = issue(installation)
    calls: list[list[str]] = []

    def compose(_: Installation, *arguments: str, **__: int) -> subprocess.CompletedProcess[str]:
        calls.append([word for word in arguments if not word.startswith("--")])
        return subprocess.CompletedProcess([], 0 if takes or "reload" in arguments else 1, "", "")

    def served(_: Installation) -> bytes:
        is_loaded = calls and calls[-1][-1] == "reload"
        return seawall_certificate.first_certificate(issued["fullchain"]) if is_loaded else b"another one"

    monkeypatch.setattr(Installation, "compose", compose)
    monkeypatch.setattr(seawall_certificate, "served", served)
    monkeypatch.setattr(seawall_certificate, "LOAD_SECONDS", 1)
    if takes:
        assert seawall_certificate.run(installation, "check", force=False) == {"changed": True}
        assert seawall_certificate.run(installation, "install", force=False) == {"changed": True}
        assert seawall_certificate.run(installation, "check", force=False) == {"changed": False}
    else:
        with pytest.raises(CertificateError, match="goes on with the one before"):
            seawall_certificate.run(installation, "install", force=False)
    test, reload = ["exec", "edge", "nginx", "-t", "-q"], ["exec", "edge", "nginx", "-s", "reload"]
    assert calls == ([test, reload] if takes else [test])


@pytest.mark.parametrize(
    ("code", "errors", "told"),
    [
        (0, "", ""),
        (124, "", "did not finish within"),
        (1, "noise\nseawall-acme: a.example: no.\n", "^a.example: no.$"),
        (1, "one\ntwo\nthree\n", "^two three$"),
        (3, "", "ended with 3"),
    ],
)
def test_the_authority_is_asked_and_its_refusal_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, code: int, errors: str, told: str
) -> None:
    """And what it had issued before is brought into use all the same."""
    issued = issue(installation)
    calls: list[tuple[str, ...]] = []

    def compose(_: Installation, *arguments: str, **__: int) -> subprocess.CompletedProcess[str]:
        calls.append(arguments)
        return subprocess.CompletedProcess([], code, "", errors)

    monkeypatch.setattr(Installation, "compose", compose)
    for force in (False, True):
        if told:
            with pytest.raises(CertificateError, match=told):
                seawall_certificate.run(installation, "renew", force=force)
        else:
            seawall_certificate.run(installation, "renew", force=force)
        assert (calls[-1][-1] == "--force") == force
    assert in_use(installation)[0] == issued["fullchain"]


def test_names_fit_in_any_order(installation: Installation) -> None:
    assert fits(issue(installation, names=["b.example", "a.example"]), WANTED)
