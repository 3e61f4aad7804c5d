"""Documentation names only files and verbs that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md"), ROOT / "app/README.md"])
VERBS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} | {"test"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_verbs_exist(page: Path) -> None:
    named = set(re.findall(r"\./seawall ([a-z_]+)", page.read_text(encoding="utf-8")))
    assert named - VERBS == set()


def test_every_playbook_says_in_its_first_line_what_it_does() -> None:
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        assert re.match(r"# \S.*\.$", playbook.read_text(encoding="utf-8").splitlines()[0]), playbook
