"""The argument specs, the defaults and the documentation say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from generate_configuration import PAGE, page

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def options_of(role: str) -> dict[str, Any]:
    return load(ROOT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}


def every_option(options: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for name, option in options.items():
        found.append((prefix + name, option))
        found += every_option(option.get("options", {}), f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("role", ROLES)
def test_role_has_its_parts(role: str) -> None:
    parts = ["defaults/main.yml", "meta/argument_specs.yml", "tasks/main.yml", "README.md"]
    assert [part for part in parts if not (ROOT / "roles" / role / part).exists()] == []


@pytest.mark.requirement("BEY-17")
@pytest.mark.parametrize("role", ROLES)
def test_defaults_equal_the_specification(role: str) -> None:
    defaults = load(ROOT / f"roles/{role}/defaults/main.yml")
    specified = {name: option.get("default") for name, option in options_of(role).items() if not name.startswith("seawall_")}
    assert defaults == specified


def test_global_defaults_equal_the_specification() -> None:
    declared = options_of("preflight").items()
    specified = {name: option.get("default", "") for name, option in declared if name.startswith("seawall_")}
    assert load(ROOT / "playbooks/group_vars/all/seawall.yml") == specified


@pytest.mark.parametrize("role", ROLES)
def test_nested_defaults_equal_the_dict_they_are_in(role: str) -> None:
    for name, option in every_option(options_of(role)):
        if option["type"] == "dict" and option.get("options") and isinstance(option.get("default"), dict):
            nested = {key: inner["default"] for key, inner in option["options"].items() if "default" in inner}
            assert nested == {key: value for key, value in option["default"].items() if key in nested}, name


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_typed_and_described(role: str) -> None:
    bare = [name for name, option in every_option(options_of(role)) if not option.get("type") or not option.get("description")]
    assert bare == []


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_name_of_their_role(role: str) -> None:
    names = [*load(ROOT / f"roles/{role}/defaults/main.yml"), *load(ROOT / f"roles/{role}/vars/main.yml")]
    assert [name for name in names if not name.startswith(f"{role}_")] == []


def test_configuration_page_is_generated_from_the_specifications() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs/generate_configuration.py"), "--check"], check=False)
    assert done.returncode == 0, "run .venv/bin/python docs/generate_configuration.py and commit docs/configuration.md"


def test_environment_file_sets_exactly_what_the_stack_reads() -> None:
    stack = (ROOT / "compose/stack.yml").read_text(encoding="utf-8")
    template = (ROOT / "compose/env.j2").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{([A-Z_]+)\}", stack))
    assert set(re.findall(r"^([A-Z_]+)=", template, re.MULTILINE)) == read


# For whoever changes what Seawall itself is made of, or has a reason that no comment could foresee.
NOT_IN_THE_EXAMPLE = {
    "api_require_authenticated_principal",
    "docker_engine_start",
    "edge_headers",
    "edge_template_directory",
    "edge_upstream",
    "host_baseline_sysctl",
    "images_epoch",
    "images_with_tests",
    "preflight_distributions",
    "stack_compose_file",
    "stack_environment_template",
}


def test_example_inventory_names_all_settings_that_one_may_want_to_touch() -> None:
    text = (ROOT / "inventories/example/group_vars/seawall.yml").read_text(encoding="utf-8")
    known = {name for role in ROLES for name in options_of(role)}
    named = set(re.findall(r"^#? ?([a-z]+_[a-z0-9_]+):", text, re.MULTILINE))
    assert named == known - NOT_IN_THE_EXAMPLE
    assert known > NOT_IN_THE_EXAMPLE


def test_configuration_page_is_what_is_generated_now() -> None:
    """Whatever --check says."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run .venv/bin/python docs/generate_configuration.py"
