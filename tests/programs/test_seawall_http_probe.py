"""The probe takes what is wanted for an answer and nothing else, and says what came instead."""

from __future__ import annotations

import datetime
import itertools
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from module_run import module_run

NAME = "api.example.test"


class Handler(BaseHTTPRequestHandler):
    """Answers with the next status, and with what it was asked."""

    statuses: Iterator[int]

    def do_GET(self) -> None:
        body = f"{self.headers['Host']} {self.path}".encode()
        self.send_response(next(self.statuses))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nobody reads it."""


@contextmanager
def serving(path: Path, statuses: Iterator[int], certificate: Path | None = None) -> Iterator[None]:
    """A server on a Unix socket, within TLS where it has a certificate."""
    handler = type("Answering", (Handler,), {"statuses": statuses})
    with socketserver.ThreadingUnixStreamServer(str(path), handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One for NAME that has signed itself, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + private)
    return path


def probe(seconds: int, *requests: dict[str, object], **more: object) -> dict[str, Any]:
    return module_run("seawall_http_probe", arguments={"requests": list(requests), "seconds": seconds} | more)


def test_answers_that_are_wanted(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    with serving(socket, iter([200, 403])):
        other: dict[str, object] = {"socket": str(socket), "url": "http://x/", "status": [401, 403]}
        answer = probe(0, {"socket": str(socket), "url": "http://localhost"}, other)
    assert (answer["rc"], answer["changed"]) == (0, False)


def test_it_asks_until_the_answer_is_the_wanted(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    with serving(socket, iter([502, 503, 200])):
        assert probe(20, {"socket": str(socket), "url": "http://localhost/"})["rc"] == 0


def test_another_answer_is_told_with_what_it_says(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    with serving(socket, itertools.repeat(503)):
        answer = probe(1, {"socket": str(socket), "url": "http://name/path?a=b"})
    assert answer["failed"]
    assert answer["msg"] == f"http://name/path?a=b is answered with 503 at {socket}: name /path?a=b"


def test_no_answer_is_told(tmp_path: Path) -> None:
    answer = probe(0, {"socket": str(tmp_path / "absent.sock"), "url": "http://localhost/"})
    assert answer["failed"]
    assert "is not answered at" in answer["msg"]
    assert "No such file" in answer["msg"]


@pytest.mark.parametrize(
    ("name", "trusted", "wrong"),
    [
        (NAME, True, ""),
        ("other.example.test", True, "not valid for 'other.example.test'"),
        (NAME, False, "self-signed certificate"),
    ],
    ids=["as it should be", "another name", "another authority"],
)
def test_a_certificate_is_looked_at(tmp_path: Path, certificate: Path, name: str, trusted: bool, wrong: str) -> None:
    socket = tmp_path / "a.sock"
    authority = certificate if trusted else Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    with serving(socket, itertools.repeat(200), certificate):
        answer = probe(0, {"socket": str(socket), "url": f"https://{name}/"}, ca_path=str(authority))
    assert bool(answer.get("failed")) == bool(wrong)
    assert wrong in answer.get("msg", "")


def test_without_an_authority_any_certificate_will_do(tmp_path: Path, certificate: Path) -> None:
    socket = tmp_path / "a.sock"
    with serving(socket, itertools.repeat(200), certificate):
        assert probe(0, {"socket": str(socket), "url": "https://other.example.test/"})["rc"] == 0


def test_each_request_must_be_answered_as_wanted(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    requests: list[dict[str, object]] = [{"socket": str(socket), "url": f"http://x/{path}"} for path in ("first", "second")]
    with serving(socket, iter([200, 500])):
        answer = probe(0, *requests)
    assert answer["msg"].startswith("http://x/second is answered with 500")
