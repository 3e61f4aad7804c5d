"""A throwaway cluster beside the set, on a unix socket alone, to restore into."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from seawall_backup import database, programs
from seawall_backup.errors import BackupError
from seawall_backup.manifest import Contents, differences, globals_for_new_cluster

SOCKETS = Path("/run/postgresql")
PORT = "5433"
INITDB = [
    "--username=postgres",
    "--data-checksums",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=peer",
    "--no-sync",
]
# Small, and otherwise as a real server: the restore must prove the real thing.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": str(SOCKETS),
    "port": PORT,
    "max_connections": "20",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "64MB",
    "autovacuum": "off",
}


def last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return " ".join([line for line in lines if "FATAL" in line or "PANIC" in line or "ERROR" in line][-2:])


@contextmanager
def scratch_cluster(directory: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which Postgres's programs reach the cluster; remove every trace of it afterwards."""
    directory.mkdir(mode=0o700)
    data, log = directory / "data", directory / "log"
    environment = {"PATH": os.environ["PATH"], "PGHOST": str(SOCKETS), "PGPORT": PORT, "PGUSER": "postgres", "TZ": "UTC"}
    control = ["pg_ctl", "--silent", "--wait", f"--pgdata={data}"]
    try:
        programs.run(["initdb", f"--pgdata={data}", *INITDB], environment)
        options = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
        try:
            try:
                programs.run([*control, "--timeout=60", f"--log={log}", f"--options={options}", "start"], environment)
            except BackupError as error:
                raise BackupError(f"the scratch server did not start: {last_words(log) or error}") from error
            yield environment
        finally:
            # A start that was broken off may have left a server behind or none, which pg_ctl calls an error.
            with suppress(BackupError):
                programs.run([*control, "--mode=immediate", "stop"], environment)
    finally:
        shutil.rmtree(directory)


def restore(environment: Mapping[str, str], globals_script: Path, dump: Path, workspace: Path, jobs: int) -> None:
    """Roles first, then the database with its owners, grants and settings, stopping at the first error."""
    adapted = workspace / "globals.sql"
    adapted.write_text(globals_for_new_cluster(globals_script.read_text(encoding="utf-8")), encoding="utf-8")
    programs.run(
        ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=on", "--dbname=postgres", f"--file={adapted}"], environment
    )
    programs.run(
        ["pg_restore", "--create", "--exit-on-error", f"--jobs={jobs}", "--dbname=postgres", "--no-password", str(dump)],
        environment,
    )


def complaints(name: str, expected: Contents, known_drift: list[str]) -> list[str]:
    """Every way in which the restored database is not the one that was dumped."""
    with database.connect(host=str(SOCKETS), port=PORT, user="postgres", dbname=name) as connection:
        found = differences(expected, database.read_contents(connection))
        found += [f"grants: {line}" for line in database.grant_drift(connection) if line not in known_drift]
        return found + [f"index {index} is invalid" for index in database.invalid_indexes(connection)]
