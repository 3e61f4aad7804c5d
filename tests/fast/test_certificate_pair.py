"""What OpenSSL would refuse to serve is found before an edge is given it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificate_pair import pair_problem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

WEAK_BITS = 1024
CUT_OFF = b"-----BEGIN CERTIFICATE-----\nMIIB\n"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def written(directory: Path, key: PrivateKey, after: bytes = b"", passphrase: bytes = b"") -> tuple[str, str]:
    """A certificate that has signed itself, with something behind it, and its key."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate, private_key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + after)
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return str(certificate), str(private_key)


def test_a_pair_that_can_be_served(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pair = written(tmp_path, key)
    assert pair_problem(*pair) == ""
    whole = Path(pair[0]).read_bytes()
    assert pair_problem(*written(tmp_path, key, after=whole)) == ""


@pytest.mark.parametrize("rest", [CUT_OFF, CUT_OFF + b"-----END CERTIFICATE-----\n"])
def test_a_chain_that_is_cut_off(tmp_path: Path, rest: bytes) -> None:
    assert pair_problem(*written(tmp_path, ec.generate_private_key(ec.SECP256R1()), after=rest)) != ""


def test_a_key_that_is_too_weak(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, WEAK_BITS)
    assert pair_problem(*written(tmp_path, weak)) == "ee key too small"


def test_what_does_not_belong_together_is_locked_or_absent(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    certificate, _ = written(first, ec.generate_private_key(ec.SECP256R1()))
    _, key = written(second, ec.generate_private_key(ec.SECP256R1()), passphrase=b"x")
    assert pair_problem(certificate, key) != ""
    _, key = written(second, ec.generate_private_key(ec.SECP256R1()))
    assert pair_problem(certificate, key) == "key values mismatch"
    assert pair_problem(certificate, str(tmp_path / "absent")) == "No such file or directory"
