"""A certificate authority for the tests: Debian's pebble, and the DNS that it asks, in containers.

usage: authority.py start NETWORK HOST HTTP_PORT IMAGES DIRECTORY
       authority.py remove NETWORK

start has one in a network that is there, built on what the images of an archive are built on; all names lead to the container
HOST, which is asked at HTTP_PORT. In DIRECTORY it leaves `url` (of the directory),
`authority.pem` (who has signed what it answers with) and `root.pem` (who signs what it issues).
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from installation import docker

NETWORK = "seawall-acme-test-authority"
LABEL = "seawall.test=authority"
ISSUING, MANAGING = 14000, 15000

DOCKERFILE = """
ARG BASE
FROM ${BASE}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends pebble \\
 && rm -rf /var/lib/apt/lists/*
USER 65534:65534
"""
# Its address is known once it runs, and must be in its certificate.
WHEN_CONFIGURED = 'until [ -e /etc/pebble/pebble.json ]; do sleep 0.1; done; exec pebble "$@"'
CONFINED = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges=true", f"--label={LABEL}"]


def image(base: str) -> str:
    """Built once for a base image, and kept like all images that tests build."""
    reference = f"seawall-test/pebble:{hashlib.sha256((base + DOCKERFILE).encode()).hexdigest()[:12]}"
    if not docker("image", "ls", "--quiet", reference):
        build = ["docker", "buildx", "build", "--builder=default", "--load", f"--build-arg=BASE={base}", f"--tag={reference}"]
        done = subprocess.run([*build, "-"], input=DOCKERFILE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return reference


def write_certificate(directory: Path, address: str) -> None:
    """What pebble answers with itself, by an authority that nobody knows: authority.pem, and pebble.pem with pebble.key."""
    begin, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=1)
    signer_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signer, subject = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Of the tests", "pebble"))

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(signer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key())
        return builder.add_extension(identifier, critical=False)

    authority = certificate(signer, signer_key.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    authority = authority.add_extension(x509.SubjectKeyIdentifier.from_public_key(signer_key.public_key()), critical=False)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    usage |= {"digital_signature": False, "key_cert_sign": True, "crl_sign": True}
    authority = authority.add_extension(x509.KeyUsage(**usage), critical=True)
    alternatives = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    server = certificate(subject, key.public_key()).add_extension(alternatives, critical=False)
    for name, builder in (("authority", authority), ("pebble", server)):
        (directory / f"{name}.pem").write_bytes(builder.sign(signer_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (directory / "pebble.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def container_address(name: str) -> str:
    return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)


def base_of(edge_image: str) -> str:
    """What our images are built on."""
    return docker("run", "--rm", f"--label={LABEL}", "--network=none", "--entrypoint=cat", edge_image, "/etc/seawall-base")


def remove(network: str = NETWORK) -> None:
    if left := docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}", "--filter", f"network={network}").split():
        docker("rm", "--force", *left)
    if network in docker("network", "ls", "--filter", f"label={LABEL}", "--format", "{{.Name}}").split():
        docker("network", "rm", network)


@dataclass
class Authority:
    """A running pebble, and where it is reached from the machine that runs the tests and from containers there."""

    address: str
    directory: Path
    network: str

    @property
    def pebble(self) -> str:
        return f"{self.network}-pebble"

    @property
    def names(self) -> str:
        """The DNS that it asks."""
        return f"{self.network}-names"

    @property
    def directory_url(self) -> str:
        return f"https://{self.address}:{ISSUING}/dir"

    @property
    def bundle(self) -> Path:
        """Who has signed what pebble itself answers with."""
        return self.directory / "authority.pem"

    def ask(self, path: str) -> str:
        """What pebble tells those who run it."""
        context = ssl.create_default_context(cafile=str(self.bundle))
        with urllib.request.urlopen(f"https://{self.address}:{MANAGING}{path}", timeout=10, context=context) as answer:
            return str(answer.read().decode())

    def root(self) -> str:
        """The authority that pebble issues from, made anew at each of its starts."""
        return self.ask("/roots/0")

    def status(self, serial: str) -> str:
        return str(json.loads(self.ask(f"/cert-status-by-serial/{serial}"))["Status"])

    def log(self) -> str:
        """Every request that was made to it."""
        done = subprocess.run(["docker", "logs", self.pebble], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def have_names_lead_to(self, address: str) -> None:
        """Every name of the DNS that pebble asks."""
        body = json.dumps({"ip": address}).encode()
        url = f"http://{container_address(self.names)}:8055/set-default-ipv4"
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=10):
            pass

    def stop(self) -> None:
        docker("stop", "--time", "1", self.pebble)


def configuration(http_port: int) -> str:
    content = {
        "listenAddress": f"0.0.0.0:{ISSUING}",
        "managementListenAddress": f"0.0.0.0:{MANAGING}",
        "certificate": "/etc/pebble/pebble.pem",
        "privateKey": "/etc/pebble/pebble.key",
        "httpPort": http_port,
        "tlsPort": 1,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "certificateValidityPeriod": 6 * 86400,
    }
    return json.dumps({"pebble": content})


def start(base: str, http_port: int, directory: Path, network: str = "") -> Authority:
    """Pebble, which asks names at that port; all of them lead to this machine at first.

    In `network` it has an address itself. Without one it gets a network of its own, whose gateway is an address of this machine:
    containers of other networks reach it there.
    """
    remove(network or NETWORK)
    reference = image(base)
    if not network:
        docker("network", "create", f"--label={LABEL}", NETWORK)
    gateway = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network or NETWORK)
    authority = Authority(gateway, directory, network or NETWORK)
    directory.chmod(0o755)
    given = ["--detach", f"--network={authority.network}", *CONFINED]
    # What a program of the image listens on besides the DNS would only be in the way.
    options = ["-defaultIPv4", gateway, "-defaultIPv6", "", "-dns01", ":8053"]
    for unused in ("-doh", "-http01", "-https01", "-tlsalpn01"):
        options += [unused, ""]
    docker("run", f"--name={authority.names}", *given, reference, "pebble-challtestsrv", *options)
    # Now and then it refuses for no reason, which a client must get over.
    given += ["--env=PEBBLE_VA_NOSLEEP=1", "--env=PEBBLE_WFE_NONCEREJECT=5", "--env=PEBBLE_AUTHZREUSE=0"]
    given += [] if network else [f"--publish={gateway}:{port}:{port}" for port in (ISSUING, MANAGING)]
    program = ["sh", "-c", WHEN_CONFIGURED, "sh", "-config", "/etc/pebble/pebble.json"]
    program += ["-dnsserver", f"{container_address(authority.names)}:8053"]
    docker("run", f"--name={authority.pebble}", *given, f"--volume={directory}:/etc/pebble:ro", reference, *program)
    if network:
        authority.address = container_address(authority.pebble)
    write_certificate(directory, authority.address)
    (directory / "pebble.json").write_text(configuration(http_port), encoding="utf-8")
    deadline = time.monotonic() + 60
    while True:
        try:
            authority.root()
        except OSError:
            assert time.monotonic() < deadline, authority.log()
            time.sleep(0.5)
        else:
            return authority


def start_in(network: str, host: str, http_port: str, images: str, place: str) -> None:
    with tarfile.open(images) as archive, archive.extractfile("manifest.json") or io.BytesIO() as manifest:
        (edge,) = (tag for image in json.load(manifest) for tag in image["RepoTags"] if "/edge:" in tag)
    directory = Path(place)
    directory.mkdir(parents=True)
    authority = start(base_of(edge), int(http_port), directory, network)
    authority.have_names_lead_to(container_address(host))
    (directory / "url").write_text(authority.directory_url, encoding="ascii")
    (directory / "root.pem").write_text(authority.root(), encoding="ascii")


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start_in(*sys.argv[2:])
    else:
        remove(sys.argv[2])
