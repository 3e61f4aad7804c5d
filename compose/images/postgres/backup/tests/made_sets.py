"""Sets for tests: whole ones, on disk, of a dump of four bytes."""

from __future__ import annotations

from pathlib import Path

from seawall_backup import sets
from seawall_backup.manifest import Contents, Manifest, Source, encode


def make_set(directory: Path, identity: str) -> Path:
    staging = directory / f"{sets.STAGING}{identity}"
    staging.mkdir()
    (staging / "app.dump").write_bytes(b"dump")
    source = Source("app", "7", "17.1", "17.1", "image", "1/AB", "2026-01-02T03:04:05+00:00")
    files = {"app.dump": sets.stored(staging / "app.dump")}
    manifest = Manifest(
        identity, "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00", 1.0, source, Contents({}, {}, []), files
    )
    sets.write_manifest(staging, encode(manifest))
    sets.publish(staging, directory / identity)
    return directory / identity
