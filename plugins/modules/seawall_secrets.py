"""Keep every secret file of a host: generated when missing, never overwritten, derived files consistent with their sources."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_secrets
short_description: Secret files in a directory that only root can enter
description:
  - Generates what is missing, installs what is supplied, repairs owner and mode, and recomputes derived files that no longer fit.
  - Files are 0400 and appear complete or not at all. No value is ever returned or logged.
  - A refusal is returned in C(refusal) beside the failure, because a caller with no_log cannot show the message of a failed task.
options:
  path: {description: The directory., type: path, required: true}
  secrets:
    description: The secrets that must exist.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: File name., type: str, required: true}
      owner: {description: Numeric uid and gid of the container that reads it., type: int, required: true}
      kind:
        description: A random password or key, or a file derived from others.
        type: str
        choices: [password, key, scram_verifiers, valkey_acl]
        required: true
      sources: {description: For a derived file, each account and the secret that holds its password., type: dict, default: {}}
      rules: {description: For C(valkey_acl), what the accounts may do., type: str, default: ""}
  supplied: {description: Values that replace generated ones by name., type: dict, default: {}}
"""

RETURN = r"""
created: {description: Names of generated or supplied new files., type: list, returned: success}
replaced: {description: Names whose supplied value differed from the file., type: list, returned: success}
derived: {description: Names of derived files that were written., type: list, returned: success}
repaired: {description: Names whose owner or mode or trailing newline was put right., type: list, returned: success}
files: {description: Every secret that exists in the directory afterwards., type: dict, returned: success}
fingerprint: {description: Changes when one of the named secrets does; tells nothing about a value., type: str, returned: success}
fingerprints: {description: The same for each name alone., type: dict, returned: success}
"""

import base64
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Without characters that are mistaken for one another: a person may have to type one. 32 of them hold 186 bits.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
GENERATED_LENGTH = 32
SHORTEST = 32
FEWEST_CHARACTERS = 8
PLACEHOLDER = re.compile(
    r"change[-_]?me|generate[-_]?me|replace[-_]?me|password|passw0rd|secret|example|default|123456789", re.IGNORECASE
)
PRINTABLE = re.compile(r"[!-~]+")
REPEATED = re.compile(r"(.{1,10}?)\1+.{0,9}")
FILE_NAME = re.compile(r"[a-z][a-z0-9_]*")
VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
# PostgreSQL's own number. The passwords are random, so that more rounds would only slow every connection.
SCRAM_ITERATIONS = 4096
SALT_LENGTH = 16
FINGERPRINT_KEY = ".fingerprint_key"
FINGERPRINT_LENGTH = 16
TEMPORARY = ".tmp-"


class SecretsError(Exception):
    """What is wrong and what to do about it, without a value."""


class UnsafeFileError(SecretsError):
    """Something in the directory is not what a secret may be."""


class RefusedValueError(SecretsError):
    """A supplied or existing value that protects nothing."""


@dataclass(frozen=True)
class Secret:
    """One secret that must exist."""

    name: str
    owner: int
    kind: str
    sources: Mapping[str, str] = field(default_factory=dict)
    rules: str = ""

    @property
    def is_derived(self) -> bool:
        return self.kind in DERIVE


def random_password() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(GENERATED_LENGTH))


def random_key() -> str:
    return secrets.token_hex(32)


def weakness(value: object) -> str:
    """Why a value must not protect anything, or an empty string."""
    if not isinstance(value, str):
        return "it is not a string"
    if len(value) < SHORTEST:
        return f"it is shorter than {SHORTEST} characters"
    if not PRINTABLE.fullmatch(value):
        return "it has a space, a line break or a character outside ASCII"
    if len(set(value)) < FEWEST_CHARACTERS or REPEATED.fullmatch(value):
        return "it repeats itself"
    if PLACEHOLDER.search(value):
        return "it contains a placeholder word"
    return ""


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """What PostgreSQL stores for a password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    server_key = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
    stored, server, salt_text = (
        base64.b64encode(part).decode() for part in (hashlib.sha256(client_key).digest(), server_key, salt)
    )
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored}:{server}"


def verifies(verifier: str, password: str) -> bool:
    """Whether a verifier was made from a password."""
    match = VERIFIER.fullmatch(verifier)
    if match is None or int(match.group(1)) < SCRAM_ITERATIONS:
        return False
    try:
        salt = base64.b64decode(match.group(2), validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(scram_verifier(password, salt, int(match.group(1))), verifier)


def scram_verifiers(passwords: Mapping[str, str], present: str, _rules: str) -> str:
    """One line per database role; lines that still verify are kept, so that an unchanged password changes nothing."""
    kept = dict(line.split(" ", 1) for line in present.splitlines() if " " in line)
    lines = []
    for role in sorted(passwords):
        verifier = kept.get(role, "")
        if not verifies(verifier, passwords[role]):
            verifier = scram_verifier(passwords[role], secrets.token_bytes(SALT_LENGTH))
        lines.append(f"{role} {verifier}\n")
    return "".join(lines)


def valkey_acl(passwords: Mapping[str, str], _present: str, rules: str) -> str:
    """Valkey's aclfile: nobody but the named accounts, each known by the hash of its password."""
    lines = ["user default off\n"]
    for account in sorted(passwords):
        digest = hashlib.sha256(passwords[account].encode()).hexdigest()
        lines.append(f"user {account} on #{digest} {rules}\n")
    return "".join(lines)


GENERATE: dict[str, Callable[[], str]] = {"password": random_password, "key": random_key}
DERIVE: dict[str, Callable[[Mapping[str, str], str, str], str]] = {"scram_verifiers": scram_verifiers, "valkey_acl": valkey_acl}


@dataclass(frozen=True)
class Stored:
    """A file as it is."""

    content: bytes
    owner: int
    group: int
    mode: int


class SecretDirectory:
    """The directory, held open so that nobody can swap it underneath; in check mode writes stay in memory."""

    def __init__(self, path: str, descriptor: int | None, pretend: bool) -> None:
        self.path = path
        self._descriptor = descriptor
        self._pretend = pretend
        self._staged: dict[str, Stored] = {}

    def read(self, name: str) -> Stored | None:
        if name in self._staged:
            return self._staged[name]
        if self._descriptor is None:
            return None
        try:
            # O_NONBLOCK: a FIFO put here must be refused, not waited for.
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnsafeFileError(
                f"{self.path}/{name} cannot be opened as a plain file ({error.strerror}): look at it and remove it."
            ) from error
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise UnsafeFileError(f"{self.path}/{name} is not a plain file: look at it and remove it.")
        with os.fdopen(handle, "rb") as stream:
            return Stored(stream.read(), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))

    def write(self, name: str, content: bytes, owner: int, *, replace: bool) -> None:
        """The file appears complete, with owner and mode, or not at all; an existing one is replaced only if told so."""
        if self._pretend or self._descriptor is None:
            self._staged[name] = Stored(content, owner, owner, 0o400)
            return
        temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400, dir_fd=self._descriptor)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                os.fchown(stream.fileno(), owner, owner)
                os.fchmod(stream.fileno(), 0o400)
                stream.flush()
                os.fsync(stream.fileno())
            if replace:
                os.replace(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            else:
                os.link(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except FileExistsError as error:
            raise UnsafeFileError(
                f"{self.path}/{name} appeared while it was being generated: run the same command again."
            ) from error
        finally:
            # Gone already where os.replace moved it.
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._descriptor)
        os.fsync(self._descriptor)

    def repair(self, name: str, owner: int) -> None:
        if self._pretend or self._descriptor is None:
            return
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._descriptor)
        try:
            os.fchown(handle, owner, owner)
            os.fchmod(handle, 0o400)
            os.fsync(handle)
        finally:
            os.close(handle)

    def names(self) -> set[str]:
        on_disk = os.listdir(self._descriptor) if self._descriptor is not None else []
        return {name for name in [*on_disk, *self._staged] if not name.startswith(".")}


@dataclass
class Report:
    """What was done, by name."""

    created: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.created or self.replaced or self.derived or self.repaired)


def text_of(directory: SecretDirectory, name: str, stored: Stored) -> str:
    """The value in a file; an editor's newline at the end is no part of it."""
    try:
        text = stored.content.decode()
    except UnicodeDecodeError as error:
        raise RefusedValueError(
            f"{directory.path}/{name} is not text: bring back the right file, or remove it to have a new one."
        ) from error
    value = text.rstrip("\r\n")
    if not value:
        raise RefusedValueError(f"{directory.path}/{name} is empty: bring back the right file, or remove it to have a new one.")
    return value


def check_supplied(wanted: Iterable[Secret], supplied: Mapping[str, object]) -> None:
    """Refuse unknown names and values that protect nothing, before anything is touched."""
    possible = sorted(secret.name for secret in wanted if not secret.is_derived)
    for name, value in supplied.items():
        if name not in possible:
            raise RefusedValueError(
                f"secrets_supplied.{name} is not a secret that can be supplied; these can: {', '.join(possible)}."
            )
        reason = weakness(value)
        if reason:
            raise RefusedValueError(
                f"secrets_supplied.{name} is refused: {reason}. "
                "Remove it to have one generated, or use the output of: openssl rand -hex 32"
            )


def check_distinct(values: Mapping[str, str]) -> None:
    """Two secrets with one value are one secret: whoever reads the first has the second."""
    seen: dict[str, str] = {}
    for name, value in values.items():
        if value in seen:
            raise RefusedValueError(f"{seen[value]} and {name} have the same value: give each its own in secrets_supplied.")
        seen[value] = name


def value_to_keep(directory: SecretDirectory, secret: Secret, supplied: str | None) -> str | None:
    """What stands in the file, unless there is none or a supplied value takes its place; refuses what protects nothing."""
    stored = directory.read(secret.name)
    if stored is None:
        return None
    if supplied is not None and not hmac.compare_digest(stored.content.rstrip(b"\r\n"), supplied.encode()):
        return None
    value = text_of(directory, secret.name, stored)
    reason = weakness(value)
    if reason:
        raise RefusedValueError(
            f"{directory.path}/{secret.name} holds a value that protects nothing: {reason}. "
            f"Set secrets_supplied.{secret.name} to a better one, or remove the file to have one generated."
        )
    return value


def settle_base(directory: SecretDirectory, secret: Secret, value: str, report: Report) -> None:
    """Make the file of one password or key right."""
    stored = directory.read(secret.name)
    if stored is None:
        directory.write(secret.name, value.encode(), secret.owner, replace=False)
        report.created.append(secret.name)
    elif stored.content == value.encode():
        settle_owner(directory, secret, stored, report)
    else:
        directory.write(secret.name, value.encode(), secret.owner, replace=True)
        same = stored.content.rstrip(b"\r\n") == value.encode()
        (report.repaired if same else report.replaced).append(secret.name)


def settle_owner(directory: SecretDirectory, secret: Secret, stored: Stored, report: Report) -> None:
    if (stored.owner, stored.group, stored.mode) != (secret.owner, secret.owner, 0o400):
        directory.repair(secret.name, secret.owner)
        report.repaired.append(secret.name)


def settle_derived(directory: SecretDirectory, secret: Secret, values: Mapping[str, str], report: Report) -> None:
    """Make one derived file fit its sources."""
    passwords = {account: values[source] for account, source in secret.sources.items()}
    stored = directory.read(secret.name)
    present = stored.content.decode(errors="replace") if stored else ""
    content = DERIVE[secret.kind](passwords, present, secret.rules)
    if stored is None or content != present:
        directory.write(secret.name, content.encode(), secret.owner, replace=True)
        report.derived.append(secret.name)
    else:
        settle_owner(directory, secret, stored, report)


def fingerprint_key(directory: SecretDirectory, owner: int) -> bytes:
    """Keyed, for a plain hash on a container's label would let anybody who reads it test guesses."""
    stored = directory.read(FINGERPRINT_KEY)
    if stored is not None and len(stored.content) >= SHORTEST:
        return stored.content
    key = random_key().encode()
    directory.write(FINGERPRINT_KEY, key, owner, replace=True)
    return key


def short_hash(key: bytes, *parts: bytes) -> str:
    return hmac.new(key, b"\0".join(parts), hashlib.sha256).hexdigest()[:FINGERPRINT_LENGTH]


def reconcile(directory: SecretDirectory, wanted: list[Secret], supplied: Mapping[str, str]) -> Report:
    """Bring the directory to what is wanted."""
    report = Report()
    bases = [secret for secret in wanted if not secret.is_derived]
    # Every refusal comes before the first write.
    check_supplied(wanted, supplied)
    kept = {secret.name: value_to_keep(directory, secret, supplied.get(secret.name)) for secret in bases}
    settled = {**{name: value for name, value in kept.items() if value is not None}, **supplied}
    check_distinct(settled)
    values = {secret.name: settled.get(secret.name) or GENERATE[secret.kind]() for secret in bases}
    for secret in bases:
        settle_base(directory, secret, values[secret.name], report)
    for secret in wanted:
        if secret.is_derived:
            settle_derived(directory, secret, values, report)
    return report


def fingerprints(directory: SecretDirectory, wanted: Iterable[Secret], owner: int) -> dict[str, str]:
    key = fingerprint_key(directory, owner)
    prints: dict[str, str] = {}
    for secret in sorted(wanted, key=lambda secret: secret.name):
        stored = directory.read(secret.name)
        if stored is not None:
            prints[secret.name] = short_hash(key, secret.name.encode(), hashlib.sha256(stored.content).digest())
    return prints


@contextmanager
def open_directory(path: str, *, pretend: bool) -> Iterator[tuple[SecretDirectory, bool]]:
    """The directory, locked, 0700 and ours; the second value tells whether it had to be made or put right."""
    owner = os.geteuid()
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        if pretend:
            yield SecretDirectory(path, None, pretend=True), True
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
        made = True
    else:
        if not stat.S_ISDIR(status.st_mode):
            raise UnsafeFileError(f"{path} is not a directory: look at it and remove it.")
        made = (status.st_uid, stat.S_IMODE(status.st_mode)) != (owner, 0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not pretend:
            if made:
                os.fchown(descriptor, owner, os.getegid())
                os.fchmod(descriptor, 0o700)
            # Left by a run that was killed; under the lock nobody else is writing one.
            for name in os.listdir(descriptor):
                if name.startswith(TEMPORARY):
                    os.unlink(name, dir_fd=descriptor)
        yield SecretDirectory(path, descriptor, pretend), made
    finally:
        os.close(descriptor)


def parse(options: Iterable[Mapping[str, Any]]) -> list[Secret]:
    wanted = [Secret(option["name"], option["owner"], option["kind"], option["sources"], option["rules"]) for option in options]
    for secret in wanted:
        if not FILE_NAME.fullmatch(secret.name):
            raise SecretsError(f"{secret.name!r} is not a name for a secret: use small letters, digits and underscores.")
        missing = set(secret.sources.values()) - {other.name for other in wanted if not other.is_derived}
        if missing:
            raise SecretsError(f"{secret.name} is made from {', '.join(sorted(missing))}, which this call does not name.")
    return wanted


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "owner": {"type": "int", "required": True},
                    "kind": {"type": "str", "required": True, "choices": [*GENERATE, *DERIVE]},
                    "sources": {"type": "dict", "default": {}},
                    "rules": {"type": "str", "default": ""},
                },
            },
            "supplied": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        wanted = parse(module.params["secrets"])
        with open_directory(module.params["path"], pretend=module.check_mode) as (directory, made):
            report = reconcile(directory, wanted, module.params["supplied"])
            prints = fingerprints(directory, wanted, os.geteuid())
            files = dict.fromkeys(sorted(directory.names()), True)
    except SecretsError as error:
        module.fail_json(msg=str(error), refusal=str(error))
    total = hashlib.sha256("".join(prints[name] for name in sorted(prints)).encode()).hexdigest()[:FINGERPRINT_LENGTH]
    module.exit_json(changed=made or report.changed, files=files, fingerprint=total, fingerprints=prints, **vars(report))


if __name__ == "__main__":
    main()
