"""docs/operations.md is a checklist that can be gone by: what it names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n?)*)", PAGE, re.MULTILINE))
ROLES = "|".join(sorted(path.name for path in (ROOT / "roles").iterdir()))


def settings() -> set[str]:
    """Every setting, and every key of one, with dots."""

    def keys(options: dict[str, Any], prefix: str = "") -> set[str]:
        below = (keys(option.get("options") or {}, f"{prefix}{name}.") for name, option in options.items())
        return {prefix + name for name in options}.union(*below)

    specs = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
    return set().union(*(keys(spec["argument_specs"]["main"].get("options") or {}) for spec in specs))


def first_cells(section: str) -> set[str]:
    """What stands in backticks in the first column of a section's table."""
    rows = re.findall(r"^\| (.+?) \|", SECTIONS[section], re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


@pytest.mark.requirement("OPS-01")
@pytest.mark.parametrize(
    "section",
    [
        "Before the first clients come",
        "Recommended settings",
        "Signals to watch",
        "Logs to expect",
        "Scaling",
        "What the limits do not do",
    ],
)
def test_it_has_its_sections(section: str) -> None:
    assert len(SECTIONS[section].splitlines()) > 3
    assert "docs/operations.md" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.requirement("OPS-01")
def test_every_setting_that_it_names_exists() -> None:
    named = set(re.findall(rf"`((?:{ROLES}|seawall)_[a-z0-9_]+(?:\.[a-z0-9_]+)?)`", PAGE))
    known = settings()
    assert len(named) > 20
    assert named - known == set()
    assert first_cells("Recommended settings") - known == set()


@pytest.mark.requirement("OPS-01")
def test_every_event_that_it_expects_is_written() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("app/seawall_service/**/*.py"))
    edge = (ROOT / "nginx/templates/http/logging.conf.j2").read_text(encoding="utf-8")
    expected = first_cells("Logs to expect")
    assert len(expected) > 10
    assert {event for event in expected if f'"{event}"' not in source + edge} == set()
    # And it leaves out none of those that are about a start or about what is away.
    written = set(re.findall(r'log\.(?:warning|error|info)\(\s*"((?:startup|rate_limit|cache|live)\.[a-z_]+)"', source))
    told = expected | {"live.database_away", "live.notice_unreadable", "live.task_failed", "startup.database_role"}
    assert {event for event in written - told if not event.startswith("startup.telemetry")} <= {
        "startup.drain_shorter_than_requests"
    }


@pytest.mark.requirement("OPS-01")
def test_every_metric_that_it_names_is_counted() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("app/seawall_service/**/*.py"))
    named = set(re.findall(r"`(http_[a-z_]+)`", PAGE))
    assert named
    # Prometheus adds the unit, and _total to a counter.
    assert {name for name in named if f'"{re.sub("_(total|seconds)$", "", name)}"' not in source} == set()
