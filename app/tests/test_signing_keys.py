"""SEC-11: the algorithm is of a short list, and the key is of its kind and strong; anything else does not start."""

from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from seawall_service.main import create_auth_app
from seawall_service.security.signing_key import PrivateKey
from seawall_service.startup_gate import StartupRefused, load_settings
from tests.conftest import client_of
from tests.test_auth import login, verify

type Make = Callable[[], PrivateKey]

KEYS: dict[str, Make] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS512": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def pem(key: PrivateKey, passphrase: str = "") -> str:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def refusals(monkeypatch: pytest.MonkeyPatch, path: Path, algorithm: str, material: str) -> list[str]:
    path.write_text(material, encoding="utf-8")
    monkeypatch.setenv("JWT_SECRET_FILE", str(path))
    monkeypatch.setenv("JWT_ALGORITHM", algorithm)
    try:
        load_settings("auth")
    except StartupRefused as error:
        refused = error.refusals
    else:
        refused = ()
    assert not any(material in str(refusal) for refusal in refused)
    return [refusal.variable for refusal in refused]


@pytest.mark.requirement("SEC-11")
@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_every_kind_of_key_signs_and_checks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, username: str, algorithm: str
) -> None:
    assert refusals(monkeypatch, tmp_path / "key", algorithm, pem(KEYS[algorithm]())) == []
    with client_of(create_auth_app(load_settings("auth"))) as client:
        token = login(client, username)["access_token"]
        assert jwt.get_unverified_header(token)["alg"] == algorithm
        assert verify(client, token)[0] == 204
    assert refusals(monkeypatch, tmp_path / "key", algorithm, pem(KEYS[algorithm]())) == []
    with client_of(create_auth_app(load_settings("auth"))) as other:
        assert verify(other, token)[0] == 401


@pytest.mark.requirement("SEC-11")
@pytest.mark.parametrize("algorithm", ["none", "None", "", "RS1", "PS256", "HS256 ", "ES256K"])
def test_other_algorithms_do_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, algorithm: str) -> None:
    found = refusals(monkeypatch, tmp_path / "key", algorithm, "0123456789abcdef" * 4)
    assert found == ([] if algorithm == "" else ["JWT_ALGORITHM"])


@pytest.mark.requirement("SEC-11")
def test_keys_that_do_not_fit_do_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elliptic, edwards = KEYS["ES256"](), KEYS["EdDSA"]()
    public = elliptic.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    bits = 1024
    short = rsa.generate_private_key(65537, bits)
    table = [
        ("HS256", pem(elliptic)),
        ("HS256", "0123456789abcdef" + "0" * 15),
        ("HS384", "0123456789abcdef" * 2 + "0" * 15),
        ("HS512", "0123456789abcdef" * 3 + "0" * 15),
        ("RS256", "0123456789abcdef" * 4),
        ("RS256", pem(elliptic)),
        ("RS256", pem(short)),
        ("ES256", pem(edwards)),
        ("ES384", pem(elliptic)),
        ("ES256", public),
        ("ES256", pem(elliptic, "passphrase")),
        ("EdDSA", pem(elliptic)),
    ]
    for algorithm, material in table:
        assert refusals(monkeypatch, tmp_path / "key", algorithm, material) == ["JWT_SECRET_FILE"], (algorithm, material[:30])
    for algorithm, material in (("HS512", "0123456789abcdef" * 4), ("EdDSA", pem(ed448.Ed448PrivateKey.generate()))):
        assert refusals(monkeypatch, tmp_path / "key", algorithm, material) == []
