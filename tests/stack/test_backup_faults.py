"""Only a set that was restored and found equal is published; everything else leaves what was there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from database_access import SUPERUSER, Database, database_with_clients
from installation import LABEL, PROJECT, ROOT, docker, services

pytestmark = pytest.mark.usefixtures("stack")

BUSY = 75
BACKUP_USER = 10103
PASSWORD = ROOT / "secrets/db_backup_password"
MIGRATOR = "seawall_migrator"
HOLD_SCHEMA_LOCK = "SELECT 'held' FROM (SELECT pg_advisory_lock(7021960)) AS l;\n"
# Stands in front of the real pg_dump and spoils what it wrote.
SPOILER = """#!/bin/sh
set -eu
/usr/lib/postgresql/17/bin/pg_dump "$@"
for argument in "$@"; do case $argument in --file=*) python3 /spoiler/spoil.py "${argument#--file=}" ;; esac; done
"""
FLIP = """import sys
with open(sys.argv[1], "r+b") as stream:
    data = bytearray(stream.read())
    place = len(data) * PERCENT // 100
    data[place] ^= 4
    stream.seek(0)
    stream.write(data)
"""
TRUNCATE = """import os, sys
os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) * PERCENT // 100)
"""


@dataclass
class Backups:
    """Runs of the stack's backup image into a directory of their own."""

    database: Database
    image: str
    directory: Path

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "PGHOST": "postgres",
            "PGDATABASE": "app",
            "PGUSER": "seawall_backup",
            "BACKUP_PASSWORD_FILE": "/run/secrets/db_backup_password",
            "BACKUP_DIRECTORY": "/backups",
            "BACKUP_KEEP_DAILY": "7",
            "BACKUP_KEEP_WEEKLY": "4",
            "BACKUP_KEEP_MONTHLY": "6",
            "BACKUP_IMAGE": self.image,
        }
        arguments = ["docker", "run", "--rm", LABEL, "--init", f"--network={PROJECT}_data", "--read-only", "--cap-drop=ALL"]
        arguments += ["--shm-size=256m", "--tmpfs=/tmp:mode=1777,size=64m"]
        arguments += ["--tmpfs=/run/postgresql:mode=0700,uid=10103,gid=10103"]
        arguments += [f"--volume={PASSWORD}:/run/secrets/db_backup_password:ro", f"--volume={self.directory}:/backups"]
        arguments += [f"--env={name}={value}" for name, value in settings.items()]
        return subprocess.run([*arguments, *options, self.image], capture_output=True, text=True, timeout=300, check=False)

    def names(self) -> list[str]:
        """Everything in the directory but the lock."""
        return sorted(path.name for path in self.directory.iterdir() if path.name != ".lock")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with database_with_clients() as found:
        found.must(MIGRATOR, "SET client_min_messages = error; DROP TABLE IF EXISTS events_t")
        rows = "SELECT n, md5(n::text) AS body FROM generate_series(1, 20000) AS n"
        found.must(MIGRATOR, f"CREATE TABLE events_t AS {rows}")
        yield found
        found.must(MIGRATOR, "DROP TABLE events_t")


@pytest.fixture
def backups(database: Database, tmp_path: Path) -> Backups:
    directory = tmp_path / "backups"
    directory.mkdir()
    os.chown(directory, BACKUP_USER, BACKUP_USER)
    return Backups(database, services()["backup"]["image"], directory)


def spoiled(tmp_path: Path, program: str, percent: int) -> list[str]:
    """Options that put the spoiler in front of pg_dump."""
    directory = tmp_path / "spoiler"
    directory.mkdir()
    (directory / "pg_dump").write_text(SPOILER, encoding="utf-8")
    (directory / "pg_dump").chmod(0o755)
    (directory / "spoil.py").write_text(program.replace("PERCENT", str(percent)), encoding="utf-8")
    return [f"--volume={directory}:/spoiler:ro", "--env=PATH=/spoiler:/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin"]


def test_an_unspoiled_run_publishes(backups: Backups, tmp_path: Path) -> None:
    """The control: the same way, with a spoiler that changes nothing, ends in a set."""
    done = backups.run(*spoiled(tmp_path, "", 0))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert backups.names() == [answer["set"]]
    manifest = json.loads((backups.directory / answer["set"] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["tables"]["app.events_t"]["rows"] == 20000


@pytest.mark.requirement("BEY-08")
@pytest.mark.parametrize("percent", [20, 40, 60, 80])
def test_one_flipped_bit_is_found(backups: Backups, tmp_path: Path, percent: int) -> None:
    done = backups.run(*spoiled(tmp_path, FLIP, percent))
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("seawall-backup: ")
    assert backups.names() == []


@pytest.mark.requirement("BEY-08")
@pytest.mark.parametrize("percent", [0, 60, 99])
def test_a_cut_dump_is_found(backups: Backups, tmp_path: Path, percent: int) -> None:
    done = backups.run(*spoiled(tmp_path, TRUNCATE, percent))
    assert (done.returncode, backups.names()) == (1, []), done.stdout


def test_a_hand_in_the_live_grants_is_told_and_stops_no_backup(backups: Backups) -> None:
    backups.database.must(SUPERUSER, "GRANT UPDATE ON app.events_t TO seawall_app")
    try:
        done = backups.run()
    finally:
        backups.database.provision()
    assert "seawall-backup: warning: " in done.stderr
    assert "extra grant: app.events_t seawall_app UPDATE" in done.stderr
    assert done.returncode == 0
    assert backups.names() == [json.loads(done.stdout.splitlines()[-1])["set"]]


def test_a_copy_with_other_grants_is_not_published(backups: Backups, tmp_path: Path) -> None:
    options = spoiled(tmp_path, "", 0)
    # After the other arguments: pg_dump knows --version only as the first one.
    script = '#!/bin/sh\nexec /usr/lib/postgresql/17/bin/pg_dump "$@" --no-privileges\n'
    (tmp_path / "spoiler/pg_dump").write_text(script, encoding="utf-8")
    done = backups.run(*options)
    assert "grants: missing grant: app." in done.stderr
    assert (done.returncode, backups.names()) == (1, [])


def test_large_objects_are_refused(backups: Backups) -> None:
    backups.database.must(SUPERUSER, "SELECT lo_create(4711)")
    try:
        done = backups.run()
    finally:
        backups.database.must(SUPERUSER, "SELECT lo_unlink(4711)")
    assert "the database holds large objects (1)" in done.stderr
    assert (done.returncode, backups.names()) == (1, [])


def test_a_migration_is_waited_for(backups: Backups) -> None:
    holder = subprocess.Popen(
        [
            "docker",
            "exec",
            "-i",
            backups.database.clients[MIGRATOR],
            "psql",
            "-XAtq",
            "--host=postgres",
            f"--username={MIGRATOR}",
            "--dbname=app",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin
    assert holder.stdout
    with holder:
        holder.stdin.write(HOLD_SCHEMA_LOCK)
        holder.stdin.flush()
        assert holder.stdout.readline().strip() == "held"
        done = backups.run()
        holder.stdin.close()
    assert (done.returncode, backups.names()) == (BUSY, [])
    assert "a migration is changing the schema" in done.stderr


def test_what_a_killed_run_left_is_swept_and_sets_stay(backups: Backups) -> None:
    first = json.loads(backups.run().stdout.splitlines()[-1])["set"]
    left = ".partial-20200101T000000Z-0000000000000000"
    make = ["--user=10103", "--entrypoint=mkdir", f"--volume={backups.directory}:/d", backups.image, f"/d/{left}"]
    docker("run", "--rm", LABEL, *make)
    assert left in backups.names()
    second = json.loads(backups.run().stdout.splitlines()[-1])["set"]
    assert backups.names() == sorted([first, second])


def test_too_little_room_is_refused_before_anything_is_written(backups: Backups) -> None:
    done = backups.run("--tmpfs=/small:mode=0700,uid=10103,gid=10103,size=64m", "--env=BACKUP_DIRECTORY=/small")
    assert done.returncode == 1
    assert "MiB are free in /small" in done.stderr


def test_the_password_is_not_shown(backups: Backups) -> None:
    secret = PASSWORD.read_text(encoding="utf-8").strip()
    done = backups.run("--env=PGHOST=cache")
    assert done.returncode == 1
    assert secret not in done.stdout + done.stderr
