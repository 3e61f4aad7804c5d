"""The key of the access tokens: what JWT_SECRET_FILE holds must be of the kind that JWT_ALGORITHM needs, and strong (SEC-11)."""

from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PEM = "-----BEGIN "
MIN_RSA_BITS = 2048
MIN_DISTINCT_CHARACTERS = 10
# RFC 7518: as long as the hash, since a shorter key is all that a forger has to guess.
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}

type PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey
type PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


class UnfitKeyError(ValueError):
    """The message says what is wrong, and never shows the key; `cure` is what to type."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs and what checks: the same for HS*, a private and its public key for the others."""

    algorithm: str
    private: PrivateKey | str = field(repr=False)
    public: PublicKey | str = field(repr=False)


def cure_for(algorithm: str) -> str:
    if algorithm in SECRET_BYTES:
        return "Make one with: openssl rand -hex 32"
    kind = {"RS": "RSA -pkeyopt rsa_keygen_bits:3072", "Ed": "ED25519"}.get(
        algorithm[:2], f"EC -pkeyopt ec_paramgen_curve:{CURVES.get(algorithm, '')}"
    )
    return f"Make one with: openssl genpkey -algorithm {kind}"


def load_signing_key(algorithm: str, material: str) -> SigningKey:
    """Raises UnfitKeyError."""
    cure = cure_for(algorithm)
    if algorithm in SECRET_BYTES:
        return SigningKey(algorithm, *(checked_secret(algorithm, material, cure),) * 2)
    try:
        key = load_pem_private_key(material.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnfitKeyError(f"holds no private key in PEM without a passphrase, which {algorithm} needs", cure) from None
    if algorithm.startswith("RS"):
        if not isinstance(key, RSAPrivateKey):
            raise UnfitKeyError(f"holds no RSA key, which {algorithm} needs", cure)
        if key.key_size < MIN_RSA_BITS:
            raise UnfitKeyError(f"holds an RSA key of {key.key_size} bits, of at least {MIN_RSA_BITS}", cure)
        return SigningKey(algorithm, key, key.public_key())
    if algorithm in CURVES:
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != CURVES[algorithm]:
            raise UnfitKeyError(f"holds no key on the curve {CURVES[algorithm]}, which {algorithm} needs", cure)
        return SigningKey(algorithm, key, key.public_key())
    if not isinstance(key, Ed25519PrivateKey | Ed448PrivateKey):
        raise UnfitKeyError(f"holds no Ed25519 or Ed448 key, which {algorithm} needs", cure)
    return SigningKey(algorithm, key, key.public_key())


def checked_secret(algorithm: str, material: str, cure: str) -> str:
    if material.startswith(PEM):
        raise UnfitKeyError(f"holds a key in PEM, which {algorithm} would use as if it were a password", cure)
    needed = SECRET_BYTES[algorithm]
    if len(material.encode()) < needed or len(set(material)) < MIN_DISTINCT_CHARACTERS:
        raise UnfitKeyError(f"holds a key that can be guessed (under {needed} bytes or monotonous)", cure)
    return material
