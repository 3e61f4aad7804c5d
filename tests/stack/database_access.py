"""Statements sent to the stack's database as each of its roles, the way that role would come in."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from installation import LABEL, PROJECT, ROOT, containers, docker

SUPERUSER = "postgres"
# The clients' secret, and the uid that may read it.
PASSWORDS = {
    "seawall_app": ("db_app_password", 10102),
    "seawall_migrator": ("db_migrator_password", 10102),
    "seawall_backup": ("db_backup_password", 10103),
}
CLIENT = 'umask 077; printf "postgres:*:*:*:%s" "$(cat /run/secrets/password)" > /client/pass; exec sleep 900'


@dataclass(frozen=True)
class Outcome:
    """What one statement, or list of statements, did. state is the SQLSTATE of the first error, or empty."""

    rows: str
    state: str
    warnings: list[str]
    errors: str


@dataclass
class Database:
    """The stack's database, and one waiting client container for each role that has a password."""

    container: str
    clients: dict[str, str] = field(default_factory=dict)

    def __call__(self, role: str, sql: str) -> Outcome:
        """Run sql as the role: over TCP from the data network, or, where it has no password, as the superuser in its place."""
        if role in self.clients:
            return self.psql(self.clients[role], role, "postgres", "app", sql)
        put_on = [] if role == SUPERUSER else [f"--command=SET ROLE {role}", "--file=-"]
        return self.psql(self.container, SUPERUSER, "/run/postgresql", "app", sql, *put_on)

    @staticmethod
    def psql(where: str, role: str, host: str, database: str, sql: str, *more: str) -> Outcome:
        options = ["-XAtq", "--no-password", "--set=ON_ERROR_STOP=on", "--set=VERBOSITY=sqlstate"]
        target = [f"--host={host}", f"--username={role}", f"--dbname={database}"]
        done = subprocess.run(
            ["docker", "exec", "-i", where, "psql", *options, *target, *more],
            input=sql,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        error = re.search(r"(?:ERROR|FATAL):\s+([0-9A-Z]{5})\b", done.stderr)
        state = error[1] if error else ("" if done.returncode == 0 else "?")
        return Outcome(done.stdout.strip(), state, re.findall(r"WARNING:\s+([0-9A-Z]{5})\b", done.stderr), done.stderr.strip())

    def value(self, sql: str) -> str:
        """What the superuser reads: the truth about the state."""
        outcome = self(SUPERUSER, sql)
        assert outcome.state == "", outcome
        return outcome.rows

    def must(self, role: str, sql: str) -> str:
        outcome = self(role, sql)
        assert outcome.state == "", outcome
        return outcome.rows

    def provision(self, *arguments: str) -> dict[str, object]:
        answer: dict[str, object] = json.loads(docker("exec", self.container, "seawall-provision", *arguments).splitlines()[-1])
        return answer


@contextmanager
def database_with_clients() -> Iterator[Database]:
    """The installation's database; the client containers are removed afterwards."""
    server = containers()["postgres"]
    found = Database(server["Id"])
    try:
        for role, (secret, uid) in PASSWORDS.items():
            # A killed run of the tests has left it.
            docker("rm", "--force", f"{PROJECT}-test-{role}", check=False)
            found.clients[role] = docker(
                *("run", "--detach", "--rm", LABEL, "--name", f"{PROJECT}-test-{role}", "--network", f"{PROJECT}_data"),
                *("--user", f"{uid}:{uid}"),
                *("--read-only", "--cap-drop", "ALL", "--tmpfs", "/client:mode=1777,size=1m", "--env", "PGPASSFILE=/client/pass"),
                *("--volume", f"{ROOT}/secrets/{secret}:/run/secrets/password:ro", "--entrypoint", "sh", "--init"),
                *(server["Config"]["Image"], "-c", CLIENT),
            )
        yield found
    finally:
        for client in found.clients.values():
            docker("rm", "--force", client, check=False)
