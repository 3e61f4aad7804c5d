"""What a set says about itself, and how a restored copy is compared with it. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from seawall_backup.errors import BackupError

FORMAT = 1
SET_ID = re.compile(r"^\d{8}T\d{6}Z-[0-9A-F]{16}$")


@dataclass(frozen=True)
class Table:
    """One table in the snapshot. digest depends on every value of every row and not on their order."""

    rows: int
    digest: str
    max_id: int | None


@dataclass(frozen=True)
class Contents:
    """What is in a database: compared between the snapshot and the restored copy."""

    tables: dict[str, Table]
    sequences: dict[str, int]
    revisions: list[str]


@dataclass(frozen=True)
class StoredFile:
    """One file of a set."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """The database and the programs that a set was made from and with."""

    database: str
    system_identifier: str
    server_version: str
    client_version: str
    image: str
    snapshot_lsn: str
    snapshot_time: str


@dataclass(frozen=True)
class Manifest:
    """Everything about one set. It is written only after the set was restored and compared: verified_at is when."""

    id: str
    created_at: str
    verified_at: str
    seconds: float
    source: Source
    contents: Contents
    files: dict[str, StoredFile]

    @property
    def bytes(self) -> int:
        return sum(stored.bytes for stored in self.files.values())

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.contents.tables.values())


def set_id(now: datetime, lsn: str) -> str:
    """Sorts by time; the position in the log tells two sets of one second apart."""
    high, low = lsn.split("/")
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{int(high, 16):08X}{int(low, 16):08X}"


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json."""
    document = {
        "format": FORMAT,
        "id": manifest.id,
        "created_at": manifest.created_at,
        "verified_at": manifest.verified_at,
        "seconds": manifest.seconds,
        "source": asdict(manifest.source),
        "codec": "custom+zstd",
        "encryption": None,
        **asdict(manifest.contents),
        "files": {name: asdict(stored) for name, stored in manifest.files.items()},
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def decode(data: bytes) -> Manifest:
    """The manifest in these bytes; BackupError if they are none."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document["format"] != FORMAT:
            raise BackupError(f"the manifest has format {document['format']}, and this program reads format {FORMAT}")
        return Manifest(
            id=document["id"],
            created_at=document["created_at"],
            verified_at=document["verified_at"],
            seconds=document["seconds"],
            source=Source(**document["source"]),
            contents=Contents(
                tables={name: Table(**table) for name, table in document["tables"].items()},
                sequences=document["sequences"],
                revisions=document["revisions"],
            ),
            files={name: StoredFile(**stored) for name, stored in document["files"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"the manifest cannot be read: {error}") from error


def detached_hash(data: bytes) -> str:
    """The line that sha256sum --check reads, for manifest.json."""
    return f"{hashlib.sha256(data).hexdigest()}  manifest.json\n"


def differences(expected: Contents, restored: Contents) -> list[str]:
    """One sentence for each way in which the restored copy is not the snapshot."""
    found = [f"table {name} is missing" for name in sorted(expected.tables.keys() - restored.tables.keys())]
    found += [f"table {name} was not in the snapshot" for name in sorted(restored.tables.keys() - expected.tables.keys())]
    for name in sorted(expected.tables.keys() & restored.tables.keys()):
        before, after = expected.tables[name], restored.tables[name]
        if before.rows != after.rows:
            found.append(f"table {name} has {after.rows} rows instead of {before.rows}")
        elif before != after:
            found.append(f"table {name} has {after.rows} rows as it should, but their contents differ")
    for name, value in sorted(expected.sequences.items()):
        # Sequences stand outside snapshots: the dump may be ahead of what was read before it, never behind.
        if restored.sequences.get(name, -1) < value:
            found.append(f"sequence {name} stands at {restored.sequences.get(name, 'nothing')}, before {value}")
    if expected.revisions != restored.revisions:
        found.append(f"the schema revision is {restored.revisions} instead of {expected.revisions}")
    return found


def globals_for_new_cluster(script: str) -> str:
    """The script of all roles, without the line that makes the superuser, who is there in every cluster."""
    return "".join(line for line in script.splitlines(keepends=True) if line.strip() != "CREATE ROLE postgres;")


def space_needed(database_bytes: int, last_set_bytes: int | None) -> int:
    """Free bytes that one run may need: the dump, the restored copy with its log, and a reserve."""
    dump = database_bytes // 2 if last_set_bytes is None else last_set_bytes * 3 // 2
    return dump + database_bytes * 13 // 10 + 512 * 1024**2
