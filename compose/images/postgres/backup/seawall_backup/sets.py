"""The directory of sets: lock, sweep, stage, publish, read, delete."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seawall_backup.errors import BackupError, BusyError
from seawall_backup.manifest import SET_ID, Manifest, StoredFile, decode, detached_hash

STAGING = ".partial-"
SCRATCH = ".scratch-"
DELETED = ".deleted-"
MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.json.sha256"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory: one run at a time. The kernel frees it when the process ends, however it ends."""
    try:
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"{directory} cannot be written: {error.strerror}. It must belong to uid {os.getuid()}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another backup is running in {directory}. Wait for it, then try again") from error
        yield
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove what killed runs have left. Only under the lock: nothing else can be using it then."""
    for path in list(directory.iterdir()):
        if path.name.startswith((STAGING, SCRATCH, DELETED)):
            shutil.rmtree(path)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored(path: Path) -> StoredFile:
    with path.open("rb") as stream:
        return StoredFile(bytes=path.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def write_manifest(staging: Path, data: bytes) -> None:
    (staging / MANIFEST).write_bytes(data)
    (staging / MANIFEST_HASH).write_text(detached_hash(data), encoding="ascii")


def publish(staging: Path, final: Path) -> None:
    """Give the set its name once every byte is on disk: whole or not there, also after a power cut."""
    for path in staging.iterdir():
        fsync(path)
    fsync(staging)
    staging.rename(final)
    fsync(final.parent)


def delete(directory: Path, identity: str) -> None:
    """Take a set's name away before its files: a run that is killed leaves no half of a set, and the next one sweeps the rest."""
    doomed = directory / f"{DELETED}{identity}"
    (directory / identity).rename(doomed)
    fsync(directory)
    shutil.rmtree(doomed)


def read_set(directory: Path, *, read_files: bool = False) -> Manifest:
    """The manifest of a published set; BackupError if the set is not whole. Reads every byte of it only when asked to."""
    try:
        data = (directory / MANIFEST).read_bytes()
        if (directory / MANIFEST_HASH).read_text(encoding="ascii") != detached_hash(data):
            raise BackupError(f"{MANIFEST} of {directory.name} does not match its hash")
        manifest = decode(data)
        if manifest.id != directory.name:
            raise BackupError(f"{directory.name} holds the manifest of {manifest.id}")
        for name, expected in manifest.files.items():
            if (directory / name).stat().st_size != expected.bytes:
                raise BackupError(f"{name} of {directory.name} has not the size that the manifest tells")
            if read_files and stored(directory / name) != expected:
                raise BackupError(f"{name} of {directory.name} is not what was stored: its hash differs from the manifest's")
    except OSError as error:
        raise BackupError(f"{directory.name} is not whole: {error.strerror}: {error.filename}") from error
    return manifest


def list_sets(directory: Path, *, read_files: bool = False) -> tuple[list[Manifest], list[str]]:
    """Valid sets, newest first, and what is wrong with the others."""
    valid: list[Manifest] = []
    wrong: list[str] = []
    for path in sorted(directory.iterdir(), reverse=True):
        if SET_ID.match(path.name):
            try:
                valid.append(read_set(path, read_files=read_files))
            except BackupError as error:
                wrong.append(str(error))
    return valid, wrong
