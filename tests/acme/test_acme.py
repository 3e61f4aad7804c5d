"""A certificate from an authority: pebble issues and renews it through the running edge, which goes on whatever fails."""

from __future__ import annotations

import dataclasses
import http.client
import json
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import authority
import pytest
import yaml
from authority import Authority
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from edge_configuration import dump, found_by_gixy, locations
from edge_table import NOT_OUTSIDE, PLACES, PLACES_OF_ACME, Row, assert_whole, name_of, rows
from edge_wire import Address
from image_builds import build_without_hashes
from installation import REPOSITORY, Answer, Run, answer_of, containers, running, seawall
from seawall_certificate import Installation, link, make_pair, read_issued
from steady_client import SteadyClient, over_tls

PROJECT = "seawall-acme-test"
ROOT = Path("/opt/seawall-acme-test")
HTTP_PORT, HTTPS_PORT = 38080, 38443
DOMAIN, SECOND, THIRD = "api.seawall.test", "www.seawall.test", "docs.seawall.test"
EDGE_UID = 10101
CHALLENGES = "/.well-known/acme-challenge"
WHERE_IT_ASKS = [dataclasses.replace(place, name=DOMAIN) for place in PLACES_OF_ACME.values()]


def brought_pair(directory: Path, names: set[str]) -> dict[str, Path]:
    """Files of a certificate that somebody has got elsewhere, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brought along")])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime.now(UTC) - timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in sorted(names)]), critical=False)
    certificate = builder.not_valid_after(datetime.now(UTC) + timedelta(days=9)).sign(key, hashes.SHA256())
    files = {"certificate": directory / "fullchain.pem", "private_key": directory / "privkey.pem"}
    files["certificate"].write_bytes(certificate.public_bytes(Encoding.PEM))
    files["private_key"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@dataclasses.dataclass
class Served:
    """An installation whose certificate pebble issues."""

    issuer: Authority
    settings: Path
    first_run: Run

    def verb(self, name: str, *options: str) -> Run:
        return seawall(name, *options, settings=self.settings)

    def deploy(self, *options: str) -> Run:
        run = self.verb("deploy", *options)
        assert run.code == 0, run.output[-5000:]
        return run

    def renew(self, when: str = "true") -> Run:
        return self.verb("certificate", "-e", f"renew={when}")

    def take_back(self) -> None:
        """As after an incident: the authority revokes the certificate, and its renewal information says at once."""
        before = self.serial()
        revoke = ["certbot", "revoke", "--cert-name=seawall", f"--server={self.issuer.directory_url}", "--reason=superseded"]
        revoked = self.job(*revoke, "--no-delete-after-revoke", *certbot_options())
        assert revoked.returncode == 0, revoked.stdout + revoked.stderr
        assert self.issuer.status(before) == "Revoked"

    @contextmanager
    def names_that_lead_elsewhere(self) -> Iterator[None]:
        self.issuer.have_names_lead_to(authority.container_address(self.issuer.names))
        try:
            yield
        finally:
            self.issuer.have_names_lead_to(self.issuer.address)

    def connect(self, trusted: str, name: str = DOMAIN) -> http.client.HTTPConnection:
        return over_tls(self.issuer.address, HTTPS_PORT, name, trusted)()

    def ask(self, path: str, trusted: str) -> Answer:
        connection = self.connect(trusted)
        try:
            connection.request("GET", path)
            return answer_of(connection.getresponse())
        finally:
            connection.close()

    def ask_plainly(self, path: str, method: str = "GET", name: str = DOMAIN) -> Answer:
        connection = http.client.HTTPConnection(self.issuer.address, HTTP_PORT, timeout=30)
        try:
            connection.request(method, path, headers={"Host": name})
            return answer_of(connection.getresponse())
        finally:
            connection.close()

    def certificate(self, name: str = DOMAIN) -> x509.Certificate:
        """What the edge shows to whoever connects, trusted or not."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection((self.issuer.address, HTTPS_PORT), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")

    def serial(self) -> str:
        return f"{self.certificate().serial_number:x}"

    def names(self) -> set[str]:
        extension = self.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(extension.value.get_values_for_type(x509.DNSName))

    def job(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run the one-shot container with another command."""
        stack = ["docker", "compose", "--project-name", PROJECT, "--file", str(ROOT / "compose/stack.yml")]
        trusted = "REQUESTS_CA_BUNDLE=/etc/seawall/acme/ca_bundle.pem"
        return subprocess.run(
            [*stack, "run", "--rm", "--no-deps", "--no-TTY", "--env", trusted, "acme", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def program(self, verb: str) -> dict[str, object]:
        """What deploys and the timer run on the host."""
        command = [str(ROOT / "acme/config/seawall-certificate"), str(ROOT), verb]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return told

    @contextmanager
    def undisturbed(self, *but: str) -> Iterator[None]:
        """Nothing that lasts is started anew in between."""
        before = running(PROJECT)
        yield
        assert {name: found for name, found in running(PROJECT).items() if name.partition("-")[0] not in but} == {
            name: found for name, found in before.items() if name.partition("-")[0] not in but
        }

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """The edge shows the same certificate afterwards, from the same files, and answers."""
        serial, files = self.serial(), contents(ROOT / "tls")
        with self.undisturbed():
            yield
        assert self.serial() == serial
        assert contents(ROOT / "tls") == files
        assert self.ask("/healthz", self.issuer.root()).status == 200


def contents(directory: Path) -> dict[str, bytes]:
    paths = sorted(directory.rglob("*"))
    return {
        str(path): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in paths
        if not path.is_dir()
    }


def certbot_options() -> list[str]:
    (state,) = (ROOT / "acme/state").iterdir()
    directory = f"/var/lib/seawall-acme/state/{state.name}"
    return [f"--config-dir={directory}", "--work-dir=/tmp/work", "--logs-dir=/tmp/logs", "--non-interactive"]


def remove(settings: Path) -> None:
    # What one that failed has left.
    (ROOT / "first-sign-in").unlink(missing_ok=True)
    run = seawall("teardown", "-e", f"confirm={PROJECT}", "-e", "delete_data=true", settings=settings)
    assert run.code == 0, run.output[-3000:]
    assert containers(PROJECT) == {}
    authority.remove()


def base_image(directory: Path) -> str:
    """What our images are built on; brought by our own roles, with an engine, where it is not there."""
    found = directory / "edge-image"
    command = ["ansible-playbook", "tests/prepare_acme.yml", "--extra-vars", f"edge_image_in={found}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    return authority.base_of(found.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Deployed while its names still lead to a machine where nobody answers, as a first deploy often is."""
    base = base_image(tmp_path_factory.mktemp("images"))
    issuer = authority.start(base, HTTP_PORT, tmp_path_factory.mktemp("authority"))
    settings = issuer.directory / "settings.yml"
    chosen = {
        "seawall_project": PROJECT,
        "seawall_root": str(ROOT),
        "seawall_domain": DOMAIN,
        "edge_listen": {"bind_address": issuer.address, "http_port": HTTP_PORT, "https_port": HTTPS_PORT},
        "auth_first_user": {"name": "admin", "show_in": str(ROOT / "first-sign-in")},
        "tls_mode": "acme",
        "tls_extra_domains": [SECOND],
        "tls_acme": {
            "directory_url": issuer.directory_url,
            "agree_to_terms": True,
            "email": "admin@seawall.test",
            "profile": "",
            "ca_bundle": str(issuer.bundle),
        },
    }
    settings.write_text(yaml.safe_dump(chosen), encoding="utf-8")
    try:
        remove_before = seawall("teardown", "-e", f"confirm={PROJECT}", "-e", "delete_data=true", settings=settings)
        assert remove_before.code == 0, remove_before.output[-3000:]
        issuer.have_names_lead_to(authority.container_address(issuer.names))
        yield Served(issuer, settings, seawall("deploy", settings=settings))
    finally:
        remove(settings)


def test_before_the_first_issue_it_serves_and_says_what_is_wrong(installed: Served) -> None:
    run = installed.first_run
    assert run.code != 0
    assert run.recap["failed"] == 1
    said = " ".join(run.output.split())
    assert "The service is deployed and runs, but" in said
    assert f"{DOMAIN}: " in said
    assert "check the DNS record" in said
    assert "./seawall certificate -e renew=true" in said
    # With the certificate that the host has signed itself, and with all that comes after one in a deploy.
    own = (ROOT / "tls/ca.pem").read_text(encoding="ascii")
    assert installed.ask("/healthz", own).status == 200
    assert installed.names() == {DOMAIN, SECOND}
    assert (ROOT / "first-sign-in").exists()
    assert {"edge", "postgres", "cache"} < set(running(PROJECT))


@pytest.mark.requirement("BEY-14")
def test_a_certificate_is_issued_once_the_names_lead_here(installed: Served) -> None:
    installed.issuer.have_names_lead_to(installed.issuer.address)
    bootstrap = installed.serial()
    with installed.undisturbed():
        run = installed.deploy()
    assert run.recap["changed"] == 1
    assert installed.serial() != bootstrap
    root = installed.issuer.root()
    for name in (DOMAIN, SECOND):
        connection = installed.connect(root, name)
        connection.connect()
        connection.close()
    assert installed.names() == {DOMAIN, SECOND}
    assert installed.issuer.status(installed.serial()) == "Valid"
    assert not (ROOT / "tls/ca.pem").exists()
    assert "days left" in installed.verb("status").output


def test_a_second_deploy_changes_nothing_and_asks_nobody(installed: Served) -> None:
    asked = installed.issuer.log()
    with installed.unchanged():
        assert installed.deploy().recap["changed"] == 0
    assert "/dir" not in installed.issuer.log().removeprefix(asked)


@pytest.mark.requirement("BEY-14")
def test_it_is_renewed_when_the_authority_says_so_and_no_request_fails(installed: Served) -> None:
    before, root = installed.serial(), installed.issuer.root()
    words = dict(line.split(maxsplit=1) for line in (ROOT / "first-sign-in").read_text(encoding="utf-8").splitlines())
    connection = installed.connect(root)
    body = json.dumps({"username": words["user:"], "password": words["password:"]})
    connection.request("POST", "/api/auth/login", body, {"Content-Type": "application/json"})
    headers = {"Authorization": f"Bearer {answer_of(connection.getresponse()).body['access_token']}"}
    connection.request(
        "POST", "/api/v1/documents", json.dumps({"title": "Renewal"}), headers | {"Content-Type": "application/json"}
    )
    document = str(answer_of(connection.getresponse()).body["id"])
    connection.close()

    installed.take_back()
    # certbot has been told then when to ask next, and that is hours away.
    with installed.names_that_lead_elsewhere(), installed.unchanged():
        assert installed.renew().code != 0
    asked = installed.issuer.log()
    client = SteadyClient(over_tls(installed.issuer.address, HTTPS_PORT, DOMAIN, root), headers, document, lambda: "")
    with client.running(), installed.undisturbed():
        run = installed.renew()
        # Some more by the new certificate.
        served = len(client.attempts)
        assert installed.verb("certificate").code == 0
    assert run.code == 0, run.output[-3000:]
    assert run.recap["changed"] == 1
    assert "renewalInfo" in installed.issuer.log().removeprefix(asked)
    assert installed.serial() != before
    assert installed.issuer.status(installed.serial()) == "Valid"
    assert installed.serial() in run.output
    assert client.failures() == []
    assert len(client.attempts) > served > 0


def test_no_renewal_is_made_before_the_authority_wants_it(installed: Served) -> None:
    with installed.unchanged():
        run = installed.renew()
    assert run.code == 0, run.output[-3000:]
    assert run.recap["changed"] == 0
    assert "does not want it renewed yet" in run.output


def test_what_was_issued_before_a_run_was_killed_is_put_in_use_by_the_next(installed: Served) -> None:
    before = installed.serial()
    done = installed.job("seawall-acme", "--force")
    assert done.returncode == 0, done.stderr
    assert installed.serial() == before
    asked = installed.issuer.log()
    with installed.undisturbed():
        assert installed.deploy().recap["changed"] == 1
        assert installed.program("check") == {"changed": False}
    assert installed.serial() != before
    assert "/dir" not in installed.issuer.log().removeprefix(asked)
    # Killed between the rename and the reload.
    before = installed.serial()
    done = installed.job("seawall-acme", "--force")
    assert done.returncode == 0, done.stderr
    installation = Installation(ROOT, PROJECT, DOMAIN, 10101)
    link(ROOT / "tls/current", make_pair(installation, read_issued(installation)))
    assert installed.serial() == before
    with installed.undisturbed():
        assert installed.program("check") == {"changed": True}
        assert installed.program("install") == {"changed": True}
        assert installed.program("install") == {"changed": False}
    assert installed.serial() != before


def test_a_name_that_leads_elsewhere_fails_the_renewal_and_nothing_else(installed: Served) -> None:
    with installed.names_that_lead_elsewhere(), installed.unchanged():
        run = installed.renew("now")
    assert run.code != 0
    said = " ".join(run.output.split())
    assert "The certificate is not renewed, and the edge goes on with the one it has" in said
    assert "check the DNS record" in said


def test_another_name_is_asked_for_and_until_it_leads_here_the_old_certificate_serves(installed: Served) -> None:
    before = installed.serial()
    chosen = yaml.safe_load(installed.settings.read_text(encoding="utf-8")) | {"tls_extra_domains": [SECOND, THIRD]}
    installed.settings.write_text(yaml.safe_dump(chosen), encoding="utf-8")
    installed.issuer.have_names_lead_to(authority.container_address(installed.issuer.names))
    try:
        # Which pages may talk to the service depends on its names, so that is a release.
        with installed.undisturbed("api", "auth"):
            run = installed.verb("deploy")
    finally:
        installed.issuer.have_names_lead_to(installed.issuer.address)
    assert run.code != 0
    assert f"{THIRD}: " in run.output
    assert installed.serial() == before
    with installed.undisturbed():
        assert installed.deploy("--check").recap["changed"] == 1
        assert installed.serial() == before
        installed.deploy()
    assert installed.names() == {DOMAIN, SECOND, THIRD}


def test_the_challenge_is_answered_and_nothing_beside_it(installed: Served) -> None:
    directory = ROOT / f"tls/challenges{CHALLENGES}"
    directory.mkdir(parents=True)
    made = [directory / name for name in ("a-token_1", "to-the-key", "to-the-pair", "a.file")]
    try:
        made[0].write_text("the answer", encoding="ascii")
        made[1].symlink_to("/run/tls/privkey.pem")
        made[2].symlink_to("../../../current/privkey.pem")
        made[3].write_text("with a dot", encoding="ascii")
        answer = installed.ask_plainly(f"{CHALLENGES}/a-token_1")
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, "the answer", "text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert installed.ask_plainly(f"{CHALLENGES}/a-token_1", name=SECOND).status == 200
        refused = [
            "to-the-key",
            "to-the-pair",
            "a.file",
            "absent",
            "",
            "a-token_1/",
            "a-token_1/x",
            "%61.file",
            "..%2f..%2f..%2fprivkey.pem",
        ]
        for name in refused:
            answer = installed.ask_plainly(f"{CHALLENGES}/{name}")
            known = [(400, "bad_request"), (403, "forbidden"), (404, "not_found")]
            assert (answer.status, answer.body["error"]["code"]) in known, name
            assert answer.body["error"]["request_id"] == answer.headers["x-request-id"]
            assert "PRIVATE" not in str(answer)
        assert installed.ask_plainly(f"{CHALLENGES}/a-token_1", "POST").status == 405
        assert installed.ask_plainly(f"{CHALLENGES}/a-token_1", name="other.seawall.test").status == 421
        for path in ("/", "/.well-known/", "/.well-known/acme-challenge", f"{CHALLENGES}/../../x?y=1"):
            answer = installed.ask_plainly(path)
            assert (answer.status, answer.headers["location"]) == (308, f"https://{DOMAIN}:{HTTPS_PORT}{path}"), path
        # Over TLS it is a page like any other.
        assert installed.ask(f"{CHALLENGES}/a-token_1", installed.issuer.root()).body != "the answer"
    finally:
        for file in made:
            file.unlink(missing_ok=True)
        directory.rmdir()
        directory.parent.rmdir()


@pytest.fixture
def challenged(installed: Served) -> Iterator[Address]:
    """Where to ask, while the authority's question would be answered."""
    answer = ROOT / f"tls/challenges{CHALLENGES}/a-token_1"
    answer.parent.mkdir(parents=True)
    answer.write_text("the answer", encoding="ascii")
    try:
        assert installed.ask_plainly(f"{CHALLENGES}/{answer.name}").status == 200
        yield installed.issuer.address, HTTP_PORT
    finally:
        answer.unlink()
        answer.parent.rmdir()
        answer.parent.parent.rmdir()


@pytest.mark.requirement("BEY-13", "EDGE-01", "ERR-01")
@pytest.mark.parametrize("row", list(rows(WHERE_IT_ASKS)), ids=name_of)
def test_an_error_where_an_authority_asks_is_whole(challenged: Address, row: Row) -> None:
    assert_whole(row, {}, challenged)


@pytest.mark.usefixtures("installed")
def test_every_location_for_an_authority_has_a_place_in_the_table() -> None:
    added = locations(PROJECT) - set(PLACES) - NOT_OUTSIDE
    assert added == set(PLACES_OF_ACME)


@pytest.mark.requirement("BEY-16")
@pytest.mark.usefixtures("installed")
def test_gixy_finds_nothing() -> None:
    assert found_by_gixy(dump(PROJECT)) == []


def test_the_container_reaches_the_authority_and_not_the_data(installed: Served) -> None:
    networks = containers(PROJECT)["postgres"]["NetworkSettings"]["Networks"]
    database = networks[f"{PROJECT}_data"]["IPAddress"]
    program = """
import os, socket, sys
for place in sys.argv[1:]:
    address, _, port = place.rpartition(":")
    try:
        socket.create_connection((address, int(port)), timeout=3).close()
        print("reached")
    except OSError:
        print("not reached")
print(sorted(name for name in os.environ if name.startswith(("ACME", "SEAWALL", "DATABASE", "REDIS"))), os.getuid())
try:
    open("/usr/local/bin/x", "w")
except OSError as error:
    print(error.strerror)
"""
    places = [f"{installed.issuer.address}:{authority.ISSUING}", f"{database}:5432", "postgres:5432", "cache:6379"]
    done = installed.job("python", "-c", program, *places)
    expected = ["reached", "not reached", "not reached", "not reached", "[] 10105", "Read-only file system"]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.usefixtures("installed")
def test_a_package_without_a_hash_is_not_installed(tmp_path: Path) -> None:
    context = shutil.copytree(REPOSITORY / "compose/images/acme", tmp_path / "acme")
    said = build_without_hashes(context, "requirements.txt")
    assert "Hashes are required in --require-hashes mode" in said, said[-3000:]


@pytest.mark.usefixtures("installed")
def test_account_and_keys_are_for_their_owners_alone() -> None:
    for name in ("state", "issued"):
        status = (ROOT / "acme" / name).stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o700, 10105), name
    status = (ROOT / "tls/privkey.pem").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o400, 10101)


def test_modes_change_without_a_restart_and_what_was_issued_is_used_again(installed: Served, tmp_path: Path) -> None:
    issued = installed.serial()
    # Which nobody notices until a renewal is due.
    installed.issuer.stop()
    with installed.undisturbed():
        run = installed.renew("now")
        assert run.code != 0
        assert installed.issuer.directory_url in run.output
        assert installed.serial() == issued

        installed.deploy("-e", "tls_mode=self_signed")
        own = installed.serial()
        assert own != issued
        authority_of_the_host = (ROOT / "tls/ca.pem").read_text(encoding="ascii")
        assert installed.ask("/healthz", authority_of_the_host).status == 200
        assert installed.ask_plainly(f"{CHALLENGES}/x").status == 308
        files = brought_pair(tmp_path, installed.names())
        brought = {"tls_mode": "provided", "tls_provided": {key: str(path) for key, path in files.items()}}
        served_by = running(PROJECT)
        talkative = installed.deploy("-e", json.dumps(brought), "--diff", "-vvv")
        secret = [line for line in files["private_key"].read_text(encoding="ascii").splitlines() if len(line) > 40]
        assert secret
        assert [line for line in secret if line in talkative.output] == []
        assert installed.certificate() == x509.load_pem_x509_certificate(files["certificate"].read_bytes())
        key = (ROOT / "tls/privkey.pem").stat()
        assert (stat.S_IMODE(key.st_mode), key.st_uid) == (0o400, EDGE_UID)
        assert not (ROOT / "tls/ca.pem").exists()
        assert len(list((ROOT / "tls/pairs").iterdir())) == 1
        assert running(PROJECT) == served_by
        assert installed.deploy("-e", json.dumps(brought)).recap["changed"] == 0

        installed.deploy()
        assert installed.serial() == issued
