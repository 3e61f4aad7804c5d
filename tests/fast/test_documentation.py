"""Documentation names only files, verbs and error codes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md"), ROOT / "app/README.md"])
VERBS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} | {"init", "test"}


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


def test_error_codes_are_those_of_the_edge_and_of_the_service() -> None:
    page = (ROOT / "docs/service-contract.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3,4}) \| (edge|service|both|reserved) \|", page, re.MULTILINE)
    told = {code: int(status) for code, status, _ in rows}
    assert len(rows) == len(told)

    edge_errors = yaml.safe_load((ROOT / "roles/edge/vars/main.yml").read_text(encoding="utf-8"))["edge_errors"]
    assert "default internal_error;" in (ROOT / "nginx/templates/http/errors.conf.j2").read_text(encoding="utf-8")
    edge = {error["code"]: status for status, error in edge_errors.items()} | {"internal_error": 500}

    source = (ROOT / "app/seawall_service/errors.py").read_text(encoding="utf-8")
    ids = dict(re.findall(r"^    ([A-Z_]+) = \"([a-z_]+)\"$", source, re.MULTILINE))
    service = {ids[name]: int(status) for status, name in re.findall(r"(\d{3}): ErrorId\.([A-Z_]+)", source)}
    assert service

    assert set(told) == set(edge) | set(ids.values())
    assert told == told | edge | service
    assert {code for code, _, origin in rows if origin != "service"} <= set(edge)
    assert {code for code, _, origin in rows if origin in {"service", "both"}} <= set(ids.values())
