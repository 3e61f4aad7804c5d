"""One run: lock, look, snapshot, dump, restore, compare, publish."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from seawall_backup import database, programs, scratch, sets
from seawall_backup.errors import BackupError, RefusedError
from seawall_backup.manifest import Contents, Manifest, Source, encode, set_id, space_needed
from seawall_backup.retention import Retention, superfluous

DUMP = "app.dump"
GLOBALS = "globals.sql"


@dataclass(frozen=True)
class Settings:
    """Where the database is and where the sets go."""

    host: str
    name: str
    user: str
    password_file: Path
    directory: Path
    image: str
    retention: Retention


@dataclass(frozen=True)
class Snapshot:
    """What was dumped, as the dump's own snapshot saw it."""

    id: str
    created_at: datetime
    source: Source
    contents: Contents
    grant_drift: list[str]


def warn(sentence: str) -> None:
    print(f"seawall-backup: warning: {sentence}", file=sys.stderr)


def prune(directory: Path, made: str, retention: Retention) -> list[str]:
    """Delete what the new set has made superfluous. What is not a whole set of ours is told, counts for nothing and stays."""
    valid, wrong = sets.list_sets(directory)
    for sentence in wrong:
        warn(f"{sentence}. It is left as it is, and counts for no day")
    pruned: list[str] = []
    # A link is not ours, wherever it leads.
    own = [found.id for found in valid if not (directory / found.id).is_symlink()]
    for identity in superfluous(own, made, retention):
        try:
            sets.delete(directory, identity)
        except OSError as error:
            # The new set is good: this must not make it look as if there were none.
            warn(f"{identity} could not be deleted: {error.strerror}: {error.filename}")
        else:
            pruned.append(identity)
    return pruned


def joined(found: list[str]) -> str:
    return "; ".join(found[:3]) + (f" (and {len(found) - 3} more)" if len(found) > 3 else "")


def client_version(environment: Mapping[str, str]) -> str:
    """17.12 of 'pg_dump (PostgreSQL) 17.12 (Debian …)'."""
    return programs.run(["pg_dump", "--version"], environment).split()[2]


@contextmanager
def pass_file(settings: Settings) -> Iterator[Path]:
    """The password where libpq looks for it: neither an argument nor an environment value, which others can read in /proc."""
    try:
        password = settings.password_file.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise BackupError(f"BACKUP_PASSWORD_FILE={settings.password_file} cannot be read: {error.strerror}") from error
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.NamedTemporaryFile("w", prefix="pass-", encoding="utf-8") as stream:
        stream.write(f"{settings.host}:*:*:{settings.user}:{escaped}\n")
        stream.flush()
        yield Path(stream.name)


def preflight(settings: Settings, server: database.Server, client: str, now: datetime) -> None:
    """Refuse, before anything is written, what could not become a set to rely on."""
    if int(client.partition(".")[0]) != server.major:
        raise RefusedError(
            f"pg_dump is version {client} and the server {server.version}: "
            "build both images from one checkout and deploy them (./seawall deploy)"
        )
    if not server.checksums:
        raise RefusedError(
            "the server has no data checksums, so damaged pages would be copied unnoticed: run pg_checksums --enable"
        )
    if server.damaged_pages:
        raise RefusedError(
            f"the server counts {server.damaged_pages} damaged pages (pg_stat_database.checksum_failures): "
            "find them while older sets are there"
        )
    if server.large_objects:
        raise RefusedError(
            f"the database holds large objects ({server.large_objects}), which a dump would leave out: "
            "move what is in them to tables and remove them with lo_unlink"
        )
    valid, wrong = sets.list_sets(settings.directory)
    # No reason to have one set less: it is told, and the new set is made.
    for sentence in wrong:
        warn(sentence)
    if valid and datetime.fromisoformat(valid[0].created_at) > now:
        raise RefusedError(f"the clock stands before the newest set ({valid[0].id}): set it right")
    needed = space_needed(server.database_bytes, valid[0].bytes if valid else None)
    free = shutil.disk_usage(settings.directory).free
    if free < needed:
        raise RefusedError(
            f"{free // 1024**2} MiB are free in {settings.directory} and {needed // 1024**2} MiB may be needed: "
            "make room, or move backups elsewhere"
        )


def dump(settings: Settings, environment: Mapping[str, str], now: datetime, directory: Path) -> tuple[Snapshot, Path]:
    """Dump and count in one snapshot, so that the numbers are exact while the application writes on."""
    client = client_version(environment)
    passfile = environment["PGPASSFILE"]
    with database.connect(host=settings.host, user=settings.user, dbname=settings.name, passfile=passfile) as connection:
        server = database.describe_server(connection)
        preflight(settings, server, client, now)
        database.lock_schema(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((exported, lsn),) = database.rows(connection, "SELECT pg_export_snapshot(), pg_current_wal_lsn()::text")
        identity = set_id(now, lsn)
        staging = directory / f"{sets.STAGING}{identity}"
        staging.mkdir(mode=0o700)
        contents = database.read_contents(connection)
        # No reason to have no backup: the copy has the same, and a deploy mends the original.
        drift = database.grant_drift(connection)
        if drift:
            warn(f"the live grants are not what the tables' names ask for: {joined(drift)}. Run ./seawall deploy to mend them")
        programs.run(
            [
                "pg_dump",
                "--format=custom",
                "--compress=zstd:1",
                "--no-large-objects",
                "--lock-wait-timeout=30s",
                "--no-password",
                f"--snapshot={exported}",
                f"--file={staging / DUMP}",
            ],
            environment,
        )
        connection.execute("COMMIT")
        programs.run(
            [
                "pg_dumpall",
                "--globals-only",
                "--no-role-passwords",
                "--no-password",
                f"--database={settings.name}",
                f"--file={staging / GLOBALS}",
            ],
            environment,
        )
    source = Source(
        database=settings.name,
        system_identifier=server.system_identifier,
        server_version=server.version,
        client_version=client,
        image=settings.image,
        snapshot_lsn=lsn,
        snapshot_time=now.isoformat(),
    )
    return Snapshot(identity, now, source, contents, drift), staging


def verify(snapshot: Snapshot, staging: Path, directory: Path, environment: Mapping[str, str]) -> None:
    """Read the dump to its end, then restore it and compare every row, sequence, grant and index."""
    programs.run(["pg_restore", "--file=/dev/null", str(staging / DUMP)], environment)
    workspace = directory / f"{sets.SCRATCH}{snapshot.id}"
    with scratch.scratch_cluster(workspace) as scratch_environment:
        jobs = max(1, min(4, os.cpu_count() or 1))
        scratch.restore(scratch_environment, staging / GLOBALS, staging / DUMP, workspace, jobs)
        found = scratch.complaints(snapshot.source.database, snapshot.contents, snapshot.grant_drift)
    if found:
        raise BackupError(f"the restored copy is not what was dumped: {joined(found)}")


def back_up(settings: Settings) -> tuple[Manifest, list[str]]:
    """Make one set, and tell which older ones were deleted. Whatever goes wrong, what was staged goes, and every set stays."""
    began = time.monotonic()
    with sets.locked(settings.directory), pass_file(settings) as passfile:
        sets.sweep(settings.directory)
        environment = {
            "PATH": os.environ["PATH"],
            "PGHOST": settings.host,
            "PGDATABASE": settings.name,
            "PGUSER": settings.user,
            "PGPASSFILE": str(passfile),
            "PGAPPNAME": "seawall-backup",
            "TZ": "UTC",
        }
        try:
            snapshot, staging = dump(settings, environment, datetime.now(UTC), settings.directory)
            files = {name: sets.stored(staging / name) for name in (DUMP, GLOBALS)}
            verify(snapshot, staging, settings.directory, environment)
            manifest = Manifest(
                id=snapshot.id,
                created_at=snapshot.created_at.isoformat(),
                verified_at=datetime.now(UTC).isoformat(),
                seconds=round(time.monotonic() - began, 1),
                source=snapshot.source,
                contents=snapshot.contents,
                files=files,
            )
            sets.write_manifest(staging, encode(manifest))
            sets.publish(staging, settings.directory / snapshot.id)
            pruned = prune(settings.directory, snapshot.id, settings.retention)
        finally:
            sets.sweep(settings.directory)
    return manifest, pruned
