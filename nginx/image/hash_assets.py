"""Copy the console and give every asset a name that changes with its content.

usage: hash_assets.py SOURCE TARGET

Assets are the files in SOURCE/assets; a reference to one is "/assets/NAME" in a page or "./NAME" in a script.
Names with a hash may be cached for ever, and the pages, which keep their names, never.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

COMPRESSIBLE = {".html", ".js", ".css", ".svg"}
MARKED_TAG = re.compile(r'(?P<before><(?P<tag>script|link|img)\b[^>]*?)(?P<attribute>src|href)="/assets/(?P<name>[^"]+)"')
IMPORT = re.compile(r'"\./([\w.-]+)"')


class ConsoleError(Exception):
    """The console's files do not fit together."""


@dataclass(frozen=True)
class Asset:
    """A file as it is served; `imports` are the original names of all that it needs, in the order in which it needs them."""

    name: str
    content: bytes
    imports: tuple[str, ...]

    @property
    def reference(self) -> str:
        return f'"/assets/{self.name}"'

    @property
    def integrity(self) -> str:
        return f'integrity="sha384-{base64.b64encode(hashlib.sha384(self.content).digest()).decode()}"'


def hashed_name(name: str, content: bytes) -> str:
    """app.js -> app.3f2a….js"""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}{dot}{suffix}"


def imported_by(name: str, content: bytes) -> list[str]:
    return IMPORT.findall(content.decode()) if name.endswith(".js") else []


def hash_assets(sources: dict[str, bytes]) -> dict[str, Asset]:
    """By original name. An asset is named after the assets that it refers to."""
    done: dict[str, Asset] = {}
    waiting = dict(sources)
    while waiting:
        ready = [name for name, content in waiting.items() if all(other in done for other in imported_by(name, content))]
        if not ready:
            raise ConsoleError(f"these assets import each other or something missing: {', '.join(sorted(waiting))}")
        for name in ready:
            content = waiting.pop(name)
            needed: dict[str, None] = {}
            for other in imported_by(name, content):
                needed |= dict.fromkeys([*done[other].imports, other])
            if needed:
                content = IMPORT.sub(lambda match: f'"./{done[match[1]].name}"', content.decode()).encode()
            done[name] = Asset(hashed_name(name, content), content, tuple(needed))
    return done


def rewrite_page(page: str, assets: dict[str, Asset]) -> str:
    """Point a page to the hashed names, each with its integrity; an import has no place for one, so it is preloaded with it."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in assets:
            raise ConsoleError(f"a page refers to /assets/{name}, which does not exist")
        asset = assets[name]
        mark = "" if match["tag"] == "img" else f" {asset.integrity}"
        preloads = [
            f'<link rel="modulepreload" href={assets[other].reference} {assets[other].integrity}>\n  ' for other in asset.imports
        ]
        return f"{''.join(preloads)}{match['before']}{match['attribute']}={asset.reference}{mark}"

    return MARKED_TAG.sub(replace, page)


def write(path: Path, content: bytes) -> None:
    """Write a file and, where it pays, its compressed twin for nginx."""
    path.write_bytes(content)
    if path.suffix in COMPRESSIBLE:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, mtime=0))


def main(source: Path, target: Path) -> None:
    assets = hash_assets({path.name: path.read_bytes() for path in sorted((source / "assets").iterdir())})
    (target / "assets").mkdir(parents=True)
    for asset in assets.values():
        write(target / "assets" / asset.name, asset.content)
    for path in sorted(source.glob("*.html")):
        write(target / path.name, rewrite_page(path.read_text(encoding="utf-8"), assets).encode())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except ConsoleError as error:
        sys.exit(str(error))
