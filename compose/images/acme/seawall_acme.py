#!/opt/venv/bin/python
"""Get the certificate, or renew it when its authority says so, and hand it over in one file: seawall-acme [--force]."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

CONFIG = Path("/etc/seawall/acme")
STATE = Path("/var/lib/seawall-acme/state")
ISSUED = Path("/var/lib/seawall-acme/issued/certificate.json")
CHALLENGES = "/var/lib/seawall-acme/challenges"
# Debian's, and not the one that comes with a Python package.
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
LINEAGE = "seawall"

PROBLEM = re.compile(r"^\s*(?:Domain|Identifier):\s*(\S+)\n\s*Type:\s*(\S+)\n\s*Detail:\s*(.+)$", re.MULTILINE)
# Says nothing about the certificate. certbot itself tries once more, and an authority behind several machines may refuse again.
STALE_NONCE = "anti-replay nonce"
ATTEMPTS = 3
# Where certbot writes when to ask next, which it does before it renews.
ASKED = re.compile(r"^\[acme_renewal_info\]\n(?:(?!\[).*\n?)*", re.MULTILINE)
UNEXPECTED = "An unexpected error occurred:"
RECORDS = "(A; an AAAA must lead to a proxy in front, or be removed)"
CURES = {
    "caa": "A CAA record of the domain forbids this authority: add it there, or remove the record",
    "connection": "http://{name}/ must reach the edge from outside: check the DNS record, the firewall and what forwards port 80",
    "dns": f"Its DNS record {RECORDS} must lead to this host",
    "unauthorized": f"Somebody else answered: its DNS record {RECORDS} must lead to this host",
    "rateLimited": "Wait until the time that the authority names; certificates and failures are counted by week and hour",
}


class AcmeError(Exception):
    """What went wrong, as a sentence for an operator."""


@dataclass(frozen=True)
class Wanted:
    """What the certificate is to be."""

    names: list[str]
    directory_url: str
    email: str
    profile: str

    def state(self) -> Path:
        """Account and certificates of one authority; those of another are kept for the way back."""
        return STATE / re.sub(r"[^A-Za-z0-9.-]+", "_", self.directory_url.removeprefix("https://"))


def forget_when_to_ask(state: Path) -> None:
    """Have certbot ask the authority at once whether to renew, and not when its last answer has run out."""
    path = state / "renewal" / f"{LINEAGE}.conf"
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    if (kept := ASKED.sub("", content)) != content:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(kept, encoding="utf-8")
        temporary.replace(path)


def certbot(wanted: Wanted, *, force: bool) -> None:
    """One call for everything: it issues, renews when due (ARI) or when the names have changed, or keeps what there is."""
    command = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--no-eff-email"]
    command += ["--webroot", f"--webroot-path={CHALLENGES}"]
    command += [f"--config-dir={wanted.state()}", "--work-dir=/tmp/work", "--logs-dir=/tmp/logs", "--no-directory-hooks"]
    command += [f"--server={wanted.directory_url}", f"--cert-name={LINEAGE}", "--renew-with-new-domains"]
    command += [f"--email={wanted.email}" if wanted.email else "--register-unsafely-without-email"]
    command += ["--force-renewal" if force else "--keep-until-expiring"]
    if wanted.profile:
        command.append(f"--required-profile={wanted.profile}")
    for name in wanted.names:
        command += ["--domain", name]
    own = CONFIG / "ca_bundle.pem"
    trusted = str(own) if own.is_file() and own.stat().st_size else AUTHORITIES
    environment = os.environ | {"REQUESTS_CA_BUNDLE": trusted}
    # Left by a run that failed or was killed: the next one must not take the certificate for one that is not due.
    unfinished = wanted.state() / "unfinished"
    for _ in range(ATTEMPTS):
        if unfinished.exists():
            forget_when_to_ask(wanted.state())
        wanted.state().mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished.touch()
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            unfinished.unlink()
            return
        output = done.stdout + "\n" + done.stderr
        if STALE_NONCE not in output:
            break
    raise AcmeError(reason(output, wanted.directory_url))


def reason(output: str, directory_url: str) -> str:
    """What certbot said, with what to do about it."""
    problems = [
        f"{name}: {detail.strip().rstrip('.')}. {CURES.get(kind, f'The authority calls this {kind}').format(name=name)}."
        for name, kind, detail in PROBLEM.findall(output)
    ]
    if problems:
        return " ".join(dict.fromkeys(problems))
    _, found, after = output.partition(UNEXPECTED)
    lines = [line.strip() for line in (after if found else output).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Ask for help", "Saving debug log", "See the logfile"))]
    shown = " ".join(said[:2] if found else said[-2:])
    return f"{directory_url} did not issue it: {shown.rstrip('.') or 'certbot said nothing'}."


def load(lineage: Path) -> dict[str, object]:
    """The lineage's newest certificate with its key, and what a reader needs to know about it."""
    fullchain = (lineage / "fullchain.pem").read_text(encoding="ascii")
    private_key = (lineage / "privkey.pem").read_text(encoding="ascii")
    certificate = x509.load_pem_x509_certificate(fullchain.encode())
    if load_pem_private_key(private_key.encode(), None).public_key() != certificate.public_key():
        raise AcmeError(f"The key in {lineage} is not that of the certificate beside it.")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    return {
        "names": sorted(names),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": f"{certificate.not_valid_before_utc:%Y%m%d%H%M%SZ}",
        "not_after": f"{certificate.not_valid_after_utc:%Y%m%d%H%M%SZ}",
        "fullchain": fullchain,
        "private_key": private_key,
    }


def handed_over() -> Mapping[str, object]:
    try:
        found = json.loads(ISSUED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def hand_over(certificate: Mapping[str, object]) -> None:
    """Certificate, key and description in one file, so that no reader sees one without the other."""
    temporary = ISSUED.with_name(".certificate.json")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(certificate, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(ISSUED)


def run(*, force: bool) -> None:
    wanted = Wanted(**json.loads((CONFIG / "wanted.json").read_text(encoding="utf-8")))
    before = handed_over()
    # The authority decides by profile how long a certificate lives, and certbot does not notice that another one is wanted.
    another = before.get("directory_url") == wanted.directory_url and before.get("profile") != wanted.profile
    certbot(wanted, force=force or another)
    now = load(wanted.state() / "live" / LINEAGE) | {"directory_url": wanted.directory_url, "profile": wanted.profile}
    if now != before:
        hand_over(now)


def main() -> int:
    try:
        run(force="--force" in sys.argv[1:])
    except (AcmeError, OSError, ValueError, TypeError) as error:
        print(f"seawall-acme: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
