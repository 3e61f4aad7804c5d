"""The command line: seawall-backup [run | list]. The last line of stdout is one JSON value."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import psycopg

from seawall_backup import sets
from seawall_backup.errors import BackupError
from seawall_backup.manifest import Manifest
from seawall_backup.retention import Retention
from seawall_backup.run import Settings, back_up

USAGE = 64


def summary(manifest: Manifest) -> dict[str, object]:
    return {
        "set": manifest.id,
        "bytes": manifest.bytes,
        "tables": len(manifest.contents.tables),
        "rows": manifest.rows,
        "seconds": manifest.seconds,
    }


def variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError as error:
        raise BackupError(f"the environment variable {name} is not set; compose/stack.yml sets it") from error


def count(name: str, at_least: int) -> int:
    text = variable(name)
    if not text.isascii() or not text.isdigit() or int(text) < at_least:
        raise BackupError(f"{name} is {text!r}: give a whole number, {at_least} or more (backup_retention)")
    return int(text)


def interrupted(number: int, _frame: FrameType | None) -> None:
    os.write(2, f"seawall-backup: ended by signal {signal.Signals(number).name}\n".encode())
    # No BackupError: who catches that one, for a set that is not whole, goes on.
    raise SystemExit(128 + number)


def command_run() -> None:
    manifest, pruned = back_up(
        Settings(
            host=variable("PGHOST"),
            name=variable("PGDATABASE"),
            user=variable("PGUSER"),
            password_file=Path(variable("BACKUP_PASSWORD_FILE")),
            directory=Path(variable("BACKUP_DIRECTORY")),
            image=variable("BACKUP_IMAGE"),
            retention=Retention(
                daily=count("BACKUP_KEEP_DAILY", 1),
                weekly=count("BACKUP_KEEP_WEEKLY", 0),
                monthly=count("BACKUP_KEEP_MONTHLY", 0),
            ),
        )
    )
    print(json.dumps({"changed": True, **summary(manifest), "pruned": pruned}))


def command_list() -> None:
    valid, wrong = sets.list_sets(Path(variable("BACKUP_DIRECTORY")), read_files=True)
    for sentence in wrong:
        print(f"seawall-backup: {sentence}", file=sys.stderr)
    described = [
        {
            **summary(found),
            "created_at": found.created_at,
            "verified_at": found.verified_at,
            "revisions": found.contents.revisions,
        }
        for found in valid
    ]
    print(json.dumps(described))


def main() -> int:
    commands = {"run": command_run, "list": command_list}
    word = sys.argv[1] if len(sys.argv) > 1 else "run"
    if len(sys.argv) > 2 or word not in commands:
        print("usage: seawall-backup [run | list]", file=sys.stderr)
        return USAGE
    # As an exception, so that children end and staged files go.
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    try:
        commands[word]()
    except BackupError as error:
        print(f"seawall-backup: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, psycopg.Error) as error:
        print(f"seawall-backup: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
