"""What the image's build makes of the console: names that change with the content, and a hash for whatever may run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from pathlib import Path

import pytest
from hash_assets import ConsoleError, hash_assets, main, rewrite_page

CONSOLE = Path(__file__).resolve().parents[2] / "nginx/console"
CHAIN = {"page.js": b'import "./view.js";', "view.js": b'import { a } from "./api.js";', "api.js": b"export const a = 1;"}


def sri(content: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


def test_a_name_changes_with_the_content_and_with_that_of_every_import() -> None:
    before = hash_assets(CHAIN)
    after = hash_assets(CHAIN | {"api.js": b"export const a = 2;"})
    assert {name: asset.name for name, asset in before.items()}.keys() == CHAIN.keys()
    assert [name for name in CHAIN if before[name].name == after[name].name] == []
    other = hash_assets(CHAIN | {"style.css": b"a{}"})
    assert [name for name in CHAIN if before[name].name != other[name].name] == []
    assert before["view.js"].content == f'import {{ a }} from "./{before["api.js"].name}";'.encode()


@pytest.mark.requirement("WEB-01")
def test_every_import_of_the_page_has_its_hash_before_the_script() -> None:
    page = rewrite_page('<script type="module" src="/assets/page.js"></script>', hash_assets(CHAIN))
    assets = hash_assets(CHAIN)
    marked = r'<(?:link rel="modulepreload"|script type="module") (?:href|src)="/assets/([^"]+)" integrity="([^"]+)"'
    tags = re.findall(marked, page)
    assert tags == [(assets[name].name, sri(assets[name].content)) for name in ("api.js", "view.js", "page.js")]


@pytest.mark.parametrize(
    "sources",
    [{"a.js": b'import "./b.js";'}, {"a.js": b'import "./b.js";', "b.js": b'import "./a.js";'}],
    ids=["missing", "circle"],
)
def test_what_cannot_be_named_fails_the_build(sources: dict[str, bytes]) -> None:
    with pytest.raises(ConsoleError, match=r"a\.js"):
        hash_assets(sources)


def test_a_page_that_names_a_missing_asset_fails_the_build() -> None:
    with pytest.raises(ConsoleError, match=r"gone\.css"):
        rewrite_page('<link rel="stylesheet" href="/assets/gone.css">', {})


@pytest.mark.requirement("WEB-01")
def test_the_console_as_it_is_built(tmp_path: Path) -> None:
    """Whatever a page loads is there, has its hash, and is the same compressed; nothing stands in the page itself."""
    main(CONSOLE, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    built = {path.name: path.read_bytes() for path in (tmp_path / "out/assets").iterdir()}
    loaded = re.findall(r'<(?:link|script)[^>]* (?:href|src)="/assets/([^"]+)" integrity="([^"]+)"', page)
    assert {name for name in built if name.endswith((".js", ".css"))} == {name for name, _ in loaded if not name.endswith(".svg")}
    assert [name for name, hashed in loaded if hashed != sri(built[name])] == []
    assert [name for name in built if name.endswith(".gz") and gzip.decompress(built[name]) != built[name[:-3]]] == []
    assert re.findall(r"<style|style=|<script(?![^>]* src=)| on\w+=", page) == []
