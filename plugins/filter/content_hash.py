"""What a build context is: which files reach an image, their hash, and the archive that carries them to the host."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

HASH_LENGTH = 12
EARLIEST = 1_000_000_000
SPAN_SECONDS = 500_000_000
# Left behind by tools in a working copy; no image wants them, whatever its .dockerignore says.
LEFTOVERS = ("**/__pycache__", "**/*.py[co]", "**/.*_cache", "**/.git", "**/.venv", "**/.DS_Store", "**/*~", "**/*.sw?")


@dataclass(frozen=True)
class Entry:
    """One file or symbolic link of a context, as every checkout of the same revision sees it."""

    path: str
    executable: bool
    link: str
    content: bytes


@dataclass(frozen=True)
class Rule:
    """One line of a .dockerignore."""

    pattern: re.Pattern[str]
    excludes: bool


def pattern_expression(pattern: str) -> str:
    """A .dockerignore pattern as a regular expression that matches the path itself and everything below it."""
    tokens = re.findall(r"\*\*/?|\*|\?|\[[^\]]+\]|\\?.", pattern)
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = [translated.get(token, token if token.startswith("[") else re.escape(token.removeprefix("\\"))) for token in tokens]
    return "".join(parts) + "(?:/.*)?"


def rules(lines: Sequence[str]) -> list[Rule]:
    """Parse the lines of a .dockerignore; the last rule that matches wins."""
    parsed: list[Rule] = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        excludes = not text.startswith("!")
        pattern = os.path.normpath(text.removeprefix("!").strip()).lstrip("/")
        parsed.append(Rule(re.compile(pattern_expression(pattern), re.DOTALL), excludes))
    return parsed


def excluded(path: str, ruleset: Sequence[Rule]) -> bool:
    """Whether the last rule that matches a path keeps it out."""
    return next((rule.excludes for rule in reversed(ruleset) if rule.pattern.fullmatch(path)), False)


def walk(root: Path) -> Iterator[Path]:
    """Every file and link below root, in an order that does not depend on the file system."""
    for directory, names, files in os.walk(root):
        linked = [name for name in names if Path(directory, name).is_symlink()]
        names.sort()
        for name in sorted([*files, *linked]):
            yield Path(directory, name)


def entries(context: str, exclude: Sequence[str] = ()) -> list[Entry]:
    """The files of a context that reach the image, sorted by path."""
    root = Path(context)
    if not root.is_dir():
        raise AnsibleFilterError(f"The build context {context} is not a directory: check images_contexts.")
    ignore = root / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    # The Dockerfile is needed for the build even where a .dockerignore keeps it out of the image.
    ruleset = rules([*lines, *LEFTOVERS, ".dockerignore", *exclude, "!Dockerfile"])
    found: list[Entry] = []
    for path in walk(root):
        relative = path.relative_to(root).as_posix()
        if excluded(relative, ruleset):
            continue
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found.append(Entry(relative, executable=False, link=os.readlink(path), content=b""))
        elif stat.S_ISREG(status.st_mode):
            found.append(Entry(relative, bool(status.st_mode & stat.S_IXUSR), link="", content=path.read_bytes()))
        else:
            raise AnsibleFilterError(f"{path} is neither a file nor a link; an image cannot be built from it. Remove it.")
    if not any(entry.path == "Dockerfile" for entry in found):
        raise AnsibleFilterError(f"The build context {context} has no Dockerfile: check images_contexts.")
    return sorted(found, key=lambda entry: entry.path)


def digest_of(parts: Sequence[bytes]) -> str:
    """Hash of a sequence in which no two sequences collide by moving a boundary."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()[:HASH_LENGTH]


def time_of(content: bytes) -> int:
    """A modification time that differs when the content does: nginx makes its ETag of time and size, Python its cache."""
    return EARLIEST + int.from_bytes(hashlib.sha256(content).digest()[:4], "big") % SPAN_SECONDS


def content_hash(found: Sequence[Entry], ingredients: Sequence[str] = ()) -> str:
    """Hash of all that goes into an image: its files and the ingredients that are not files (base, target, epoch)."""
    parts = [ingredient.encode() for ingredient in ingredients]
    for entry in found:
        parts += [entry.path.encode(), b"x" if entry.executable else b"-", entry.link.encode(), entry.content]
    return digest_of(parts)


def pack(found: Sequence[Entry]) -> str:
    """The files as a gzip-compressed tar in base64, equal bytes for equal content."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for entry in found:
            member = tarfile.TarInfo(entry.path)
            member.mode = 0o755 if entry.executable else 0o644
            member.mtime = time_of(entry.content)
            if entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content))
    return base64.b64encode(buffer.getvalue()).decode()


def reference(name: str, image: Mapping[str, Any], found: Sequence[Entry], base: str, epoch: str) -> str:
    """Name and tag of an image that is built from the files found."""
    return f"seawall/{name}:{content_hash(found, [base, image['target'], epoch])}"


def image_references(images: Mapping[str, Mapping[str, Any]], recipe: str, epoch: object) -> dict[str, str]:
    """Every image's name and tag; a changed recipe of the base changes all of them, for all are built on it."""
    # YAML reads 2026-07-01 as a date and 2 as a number.
    word = str(epoch)
    base = f"seawall/base:{digest_of([word.encode(), Path(recipe).read_bytes()])}"
    built = {
        name: reference(name, image, entries(image["context"], image["exclude"]), base, word) for name, image in images.items()
    }
    return {"base": base, **built}


def image_context(name: str, image: Mapping[str, Any], references: Mapping[str, str], epoch: object) -> str:
    """The packed context of one image, refused when it is no longer what the image's tag was made of."""
    found = entries(image["context"], image["exclude"])
    if reference(name, image, found, references["base"], str(epoch)) != references[name]:
        raise AnsibleFilterError(
            f"Files in {image['context']} changed while images were being built: run the same command again."
        )
    return pack(found)


def image_builds(
    names: Iterable[str], images: Mapping[str, Mapping[str, Any]], references: Mapping[str, str], epoch: object
) -> list[dict[str, str]]:
    """What seawall_image_build takes of each image named: its reference, its packed context, and its target."""
    return [
        {
            "reference": references[name],
            "context": image_context(name, images[name], references, epoch),
            "target": images[name]["target"],
        }
        for name in names
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {"image_builds": image_builds, "image_references": image_references}
