"""Bad input stops before anything is changed, with one sentence that names the setting or file and the cure."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from installation import REPOSITORY, docker, running, seawall

EDGE = {"bind_address": "127.0.0.1", "http_port": 18080, "https_port": 18443}
# One for each way of refusing; tests/settings/test_preflight_values.py has a bad value for every check.
CASES: list[tuple[str, dict[str, object], list[str]]] = [
    ("unknown", {"seawall_domian": "a.example"}, ["seawall_domian", "seawall_domain"]),
    ("half a dict", {"edge_listen": {"http_port": 18080}}, ["edge_listen lacks", "https_port"]),
    ("no authentication", {"api_require_authenticated_principal": False}, ["api_require_authenticated_principal"]),
    ("weak secret", {"secrets_supplied": {"jwt_secret": "changeme"}}, ["jwt_secret"]),
]


def check(extra: dict[str, object]) -> tuple[int, str]:
    another = {"seawall_project": "seawall-preflight", "seawall_root": "/opt/seawall-preflight"}
    run = seawall("check", "-e", json.dumps(another), "-e", json.dumps(extra))
    return run.code, run.output


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(("extra", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_is_refused(extra: dict[str, object], words: list[str]) -> None:
    before = running()
    run = seawall("deploy", "-e", json.dumps(extra))
    assert run.code != 0
    message = run.output.partition("fatal:")[2] or run.output
    assert [word for word in words if word not in message] == [], run.output[-3000:]
    assert run.recap.get("changed", 0) == 0
    assert running() == before


def test_taken_port_is_named_with_its_program() -> None:
    with socket.create_server(("127.0.0.1", 18999)):
        code, output = check({"edge_listen": EDGE | {"https_port": 18999, "http_port": 18998}})
    assert code != 0
    assert re.search(rf"port 18999 is taken by \S+ \(pid {os.getpid()}\)", output)
    assert "edge_listen" in output


def key_pair(directory: Path, first_day: int = -1, last_day: int = 90) -> tuple[Path, Path]:
    """A certificate for localhost, valid from one day to another counted from today, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today + timedelta(days=first_day)).not_valid_after(today + timedelta(days=last_day))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    paths[1].write_bytes(private)
    return paths


def provided(certificate: Path, key: Path, domain: str = "localhost") -> dict[str, object]:
    files = {"certificate": str(certificate), "private_key": str(key)}
    return {
        "tls_mode": "provided",
        "tls_provided": files,
        "seawall_domain": domain,
        "edge_listen": EDGE | {"http_port": 18997, "https_port": 18996},
    }


def test_provided_certificate(tmp_path: Path) -> None:
    certificate, key = key_pair(tmp_path)
    code, output = check(provided(certificate, key))
    assert code == 0, output[-3000:]

    code, output = check(provided(certificate, tmp_path / "absent.pem"))
    assert code != 0
    assert f"tls_provided.private_key is '{tmp_path / 'absent.pem'}', which is not" in output

    (tmp_path / "other").mkdir()
    _, other = key_pair(tmp_path / "other")
    code, output = check(provided(certificate, other))
    assert code != 0
    assert str(other) in output
    assert "is not the key of" in output

    code, output = check(provided(certificate, key, "elsewhere.example.com"))
    assert code != 0
    assert f"{certificate} is for DNS:localhost and does not cover DNS:elsewhere.example.com" in output


@pytest.mark.parametrize(("first_day", "last_day"), [(-30, -1), (1, 30)], ids=["expired", "not yet valid"])
def test_certificate_that_is_not_valid_today(tmp_path: Path, first_day: int, last_day: int) -> None:
    certificate, key = key_pair(tmp_path, first_day, last_day)
    code, output = check(provided(certificate, key))
    assert code != 0
    assert f"{certificate} is valid from" in output
    assert "Renew it" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dance"], "'dance' is no verb"),
        (["../playbooks/deploy"], "is no verb"),
        (["deploy", "-i", "inventories/absent"], "the inventory inventories/absent is missing"),
        (["deploy", "--inventory=inventories/absent"], "the inventory inventories/absent is missing"),
        (["check", "-e", "@absent.yml"], "the file of settings absent.yml is missing"),
        (["test", "nonsense"], "'nonsense' is no part of the tests"),
    ],
)
def test_wrong_commands_say_so(arguments: list[str], words: str) -> None:
    run = seawall(*arguments, settings=None)
    assert run.code != 0
    assert words in run.output


def test_without_root_or_sudo_it_says_so() -> None:
    """As a user that is nobody, with a PATH that holds no sudo, in a copy that everybody can read."""
    with tempfile.TemporaryDirectory() as name:
        tools, playbooks = Path(name, "tools"), Path(name, "playbooks")
        tools.mkdir()
        playbooks.mkdir()
        for tool in ("sh", "readlink", "dirname", "id", "basename", "sed", "cat", "sha256sum"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        script = Path(shutil.copy(REPOSITORY / "seawall", name))
        playbook = Path(shutil.copy(REPOSITORY / "playbooks/deploy.yml", playbooks))
        for path in (Path(name), tools, playbooks, script, playbook):
            path.chmod(0o755)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"PATH={tools}"]
        done = subprocess.run([*command, str(script), "deploy"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "needs root" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("stack")
def test_a_check_installs_nothing() -> None:
    """The check passes, and makes neither a directory nor a container, volume or network."""
    root = Path("/opt/seawall-preflight")
    assert not root.exists()
    ports = EDGE | {"http_port": 18995, "https_port": 18994}
    code, output = check({"seawall_root": str(root), "edge_listen": ports})
    assert code == 0, output[-3000:]
    assert not root.exists()
    label = "label=com.docker.compose.project=seawall-preflight"
    for kind in ("container", "volume", "network"):
        assert docker(kind, "ls", "--quiet", "--filter", label) == ""


def test_what_an_inventory_says_about_all_hosts_counts(tmp_path: Path) -> None:
    """Our own defaults are in a group_vars/all, too, and must not win over it."""
    inventory = tmp_path / "inventory"
    shutil.copytree(REPOSITORY / "inventories/local", inventory)
    (inventory / "group_vars/all.yml").write_text("---\nseawall_project: Not A Name\n", encoding="utf-8")
    run = seawall("check", "-i", str(inventory), settings=None)
    assert run.code != 0
    assert "Not A Name" in run.output
