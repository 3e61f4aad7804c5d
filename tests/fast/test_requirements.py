"""docs/requirements.md lists every promise once, in order, beside tests that exist, or says what is missing."""

from __future__ import annotations

import ast
import re

import pytest
from generate_requirements import PAGE, ROOT, ROW, functions_in, marked, parse, with_tests

# How many of each there are. Ids are never given to another promise; new ones are appended, dropped ones stay.
IDS = [
    f"{area}-{number:02}"
    for area, count in (
        *(("SEC", 12), ("ERR", 11), ("LOG", 13), ("OTEL", 7), ("MET", 4), ("RL", 11), ("CACHE", 3), ("RUN", 4), ("HLT", 3)),
        *(("DB", 5), ("MIG", 1), ("BAK", 1), ("EDGE", 4), ("WEB", 2), ("WS", 6), ("AUD", 3), ("CFG", 4), ("TST", 4)),
        *(("OPS", 3), ("CODE", 2), ("BEY", 20)),
    )
    for number in range(1, count + 1)
]

# How two sources that disagree were brought together; a test may name one, and the page lists promises only.
RESOLUTIONS = {f"C{number}" for number in range(1, 27)}


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.requirement("TST-04")
def test_every_requirement_is_listed_once_and_in_order(page: str) -> None:
    assert [match["id"] for match in ROW.finditer(page)] == IDS
    assert len(re.findall(r"^\| [A-Z]+-\d\d \|", page, re.MULTILINE)) == len(IDS)


def test_every_row_names_a_test_or_what_is_missing(page: str) -> None:
    bare = [
        match["id"]
        for match in ROW.finditer(page)
        if not match["tests"].strip() and not match["missing"].startswith(("not yet", "in `"))
    ]
    assert bare == []


def test_the_tests_are_those_that_carry_the_marker(page: str) -> None:
    assert set(marked()) <= set(IDS) | RESOLUTIONS
    assert page == with_tests(page), "run .venv/bin/python docs/generate_requirements.py"


def test_every_test_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`([\w./-]+\.py)(?:::([\w:]+))?`", page))
    assert named
    missing = []
    for file, test in named:
        path = ROOT / file
        tree = parse(path) if path.exists() else ast.Module([], [])
        if not path.exists() or (test and test not in functions_in(tree)):
            missing.append(f"{file}::{test}")
    assert missing == []
