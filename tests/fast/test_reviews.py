"""Whoever knows a part is asked about changes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("app", "compose", "docs", "molecule", "nginx", "playbooks", "plugins", "roles", "tests")
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in OURS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
)
LINES = [line.split() for line in (ROOT / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()]
RULES = [(words[0], set(words[1:])) for words in LINES if words and not words[0].startswith("#")]


def matches(pattern: str, path: str) -> bool:
    """The two forms in use: a file from the root, and a directory with all below it; * is everything."""
    assert pattern == "*" or (pattern.startswith("/") and "*" not in pattern), (
        f"{pattern} is of a form that this test cannot read"
    )
    return pattern == "*" or path == pattern[1:] or (pattern.endswith("/") and path.startswith(pattern[1:]))


def owners(path: str) -> set[str]:
    """As the forge reads it: the last line that matches."""
    return next(teams for pattern, teams in reversed(RULES) if matches(pattern, path))


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in RULES])
def test_every_line_is_about_a_file(pattern: str) -> None:
    assert any(matches(pattern, path) for path in FILES)


@pytest.mark.requirement("OPS-03")
def test_each_change_is_reviewed_by_those_who_know() -> None:
    assert "@seawall/backend" in owners("app/Dockerfile")
    assert [path for path in FILES if path.startswith("app/") and "@seawall/backend" not in owners(path)] == []
    assert [path for path in FILES if path.startswith("nginx/") and "@seawall/ops" not in owners(path)] == []


@pytest.mark.requirement("OPS-03")
def test_what_browsers_may_do_and_keep_is_reviewed_by_those_of_the_page() -> None:
    """Wherever content policy or caching stands, of the edge."""
    edge = [path for path in FILES if path.startswith(("nginx/templates/", "roles/edge/"))]
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in edge}
    found = [path for path, text in texts.items() if "Content-Security-Policy" in text or "Cache-Control" in text]
    assert len(found) > 3
    assert [path for path in [*found, "nginx/console/index.html"] if "@seawall/ui" not in owners(path)] == []
