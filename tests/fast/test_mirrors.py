"""Packages come from where the host's own sources and pip's own configuration say: no address of a mirror stands here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = (".ci", ".github", "app", "compose", "docs", "inventories", "molecule", "nginx", "playbooks", "plugins", "roles", "tests")
ADDRESS = re.compile(
    r"\b(deb|security|archive|ports|snapshot)\.(debian\.org|ubuntu\.com)\b"
    r"|\b(pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org|docker\.io/|ghcr\.io|quay\.io)"
    r"|https?://\S+/(debian|debian-security|ubuntu|simple)(/|\s|$)"
)


def addresses_in(text: str) -> list[str]:
    return [found[0] for found in ADDRESS.finditer(text)]


@pytest.mark.parametrize(
    "text",
    [
        "deb http://deb." + "debian.org/debian trixie main",
        "Suites: trixie\nURIs: https://mirror.example/debian\n",
        "--index-url https://index.example/simple/",
        "FROM docker." + "io/library/python",
    ],
)
def test_an_address_of_a_mirror_would_be_seen(text: str) -> None:
    assert addresses_in(text)


def test_no_address_of_a_mirror_is_in_the_repository() -> None:
    files = [path for folder in OURS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    files = [path for path in [*files, *ROOT.glob("*")] if path.is_file() and path != Path(__file__)]
    assert len(files) > 300
    found = {str(file.relative_to(ROOT)): addresses_in(file.read_text(encoding="utf-8", errors="replace")) for file in files}
    assert {name: seen for name, seen in found.items() if seen} == {}
