"""The scenario that changes every setting forgets none, and the hosted tests leave out no scenario."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Where files are on the machine that deploys, and how images are built there: the hosts get theirs from an archive. Supplied
# certificates are refused in tests/settings and deployed in tests/acme.
ELSEWHERE = {
    *("edge_template_directory", "stack_compose_file", "stack_environment_template"),
    *("images_build_secrets", "images_contexts", "images_epoch", "images_with_tests"),
    "tls_provided",
}


@cache
def declared() -> dict[str, Any]:
    """Every setting of every role with its default."""
    found: dict[str, Any] = {}
    for spec in ROOT.glob("roles/*/meta/argument_specs.yml"):
        options = yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"]["main"].get("options") or {}
        found |= {name: option.get("default") for name, option in options.items()}
    return found


def test_there_are_settings() -> None:
    assert len(declared()) > 40
    assert set(declared()) > ELSEWHERE


@cache
def alternative() -> dict[str, Any]:
    """Every setting of the scenario."""
    settings: dict[str, Any] = yaml.safe_load(
        (ROOT / "molecule/alternative/inventory/group_vars/seawall.yml").read_text(encoding="utf-8")
    )
    return settings


@pytest.mark.parametrize("name", sorted(set(declared()) - ELSEWHERE))
def test_the_alternative_scenario_changes(name: str) -> None:
    assert name in alternative()
    assert alternative()[name] != declared()[name]


def test_every_scenario_has_a_job() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    host = workflow["jobs"]["host"]
    jobs = host["strategy"]["matrix"]["scenario"]
    assert sorted(jobs) == sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    # The scenario upgrade begins with an older commit.
    assert host["steps"][0]["with"]["fetch-depth"] == 0


def test_every_part_has_a_job() -> None:
    """edge is the only part that another one, stack, runs as well."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    cases = re.findall(r"^([a-z]+)\)", (ROOT / "tests/part").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(workflow["jobs"]["part"]["strategy"]["matrix"]["part"]) == sorted(set(cases) - {"edge"})
