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
from pathlib import Path

COMPRESSIBLE = {".html", ".js", ".css", ".svg"}
MARKED_TAG = re.compile(r'(<(script|link|img)\b[^>]*?)(src|href)="/assets/([^"]+)"')
IMPORT = re.compile(r'"\./([\w.-]+)"')


class ConsoleError(Exception):
    """The console's files do not fit together."""


def hashed_name(name: str, content: bytes) -> str:
    """app.js -> app.3f2a….js"""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}{dot}{suffix}"


def integrity(content: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


def hash_assets(sources: dict[str, bytes]) -> dict[str, tuple[str, bytes]]:
    """Original name -> (hashed name, content). An asset is named after the assets that it refers to."""
    done: dict[str, tuple[str, bytes]] = {}
    waiting = dict(sources)
    while waiting:
        ready = [
            name
            for name, content in waiting.items()
            if not name.endswith(".js") or all(other in done for other in IMPORT.findall(content.decode()))
        ]
        if not ready:
            raise ConsoleError(f"these assets import each other or something missing: {', '.join(sorted(waiting))}")
        for name in ready:
            content = waiting.pop(name)
            if name.endswith(".js"):
                content = IMPORT.sub(lambda match: f'"./{done[match[1]][0]}"', content.decode()).encode()
            done[name] = (hashed_name(name, content), content)
    return done


def rewrite_page(page: str, assets: dict[str, tuple[str, bytes]]) -> str:
    """Point a page to the hashed names, each with its integrity."""

    def replace(match: re.Match[str]) -> str:
        before, tag, attribute, name = match.groups()
        if name not in assets:
            raise ConsoleError(f"a page refers to /assets/{name}, which does not exist")
        new_name, content = assets[name]
        mark = "" if tag == "img" else f' integrity="{integrity(content)}"'
        return f'{before}{attribute}="/assets/{new_name}"{mark}'

    return MARKED_TAG.sub(replace, page)


def write(path: Path, content: bytes) -> None:
    """Write a file and, where it pays, its compressed twin for nginx."""
    path.write_bytes(content)
    if path.suffix in COMPRESSIBLE:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, mtime=0))


def main(source: Path, target: Path) -> None:
    assets = hash_assets({path.name: path.read_bytes() for path in sorted((source / "assets").iterdir())})
    (target / "assets").mkdir(parents=True)
    for name, content in assets.values():
        write(target / "assets" / name, content)
    for path in sorted(source.glob("*.html")):
        write(target / path.name, rewrite_page(path.read_text(encoding="utf-8"), assets).encode())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except ConsoleError as error:
        sys.exit(str(error))
