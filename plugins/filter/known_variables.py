"""Find variables that nobody reads: the typo that would otherwise be ignored in silence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load


@cache
def known_variables(root: str) -> dict[str, list[str]]:
    """For the repository at root: the roles, what roles and playbooks declare, and of that what a role keeps to itself."""
    roles = sorted(path.name for path in Path(root, "roles").iterdir() if path.is_dir())
    declared: set[str] = set()
    for spec in Path(root, "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml_load(spec.read_text(encoding="utf-8"))["argument_specs"].values():
            declared.update(entry.get("options", {}))
    internal: set[str] = set()
    for source in [*Path(root, "roles").glob("*/vars/main.yml"), *Path(root, "roles").glob("*/vars/main/*.yml")]:
        internal.update(yaml_load(source.read_text(encoding="utf-8")) or {})
    for source in [*Path(root, "roles").glob("*/defaults/main.yml"), *Path(root, "playbooks/group_vars/all").glob("*.yml")]:
        declared.update(yaml_load(source.read_text(encoding="utf-8")) or {})
    return {"roles": roles, "variables": sorted(declared | internal), "internal": sorted(internal)}


def unknown_variables(names: Iterable[str], known: dict[str, list[str]]) -> list[str]:
    """One sentence for each name that looks like one of ours and is none."""
    prefixes = tuple(f"{role}_" for role in [*known["roles"], "seawall"])
    declared = set(known["variables"])
    sentences: list[str] = []
    for name in sorted(set(names) - declared):
        # Ansible's own.
        if name.startswith("ansible_"):
            continue
        # A user's own helper, such as vault_secrets_supplied.
        if name.endswith(tuple(f"_{known_name}" for known_name in declared)) and not name.startswith(prefixes):
            continue
        close = difflib.get_close_matches(name, known["variables"], n=1, cutoff=0.85)
        if close:
            sentences.append(f"{name} is not a setting of Seawall: did you mean {close[0]}?")
        elif name.startswith(prefixes):
            sentences.append(f"{name} is not a setting of Seawall: remove it, or look it up in docs/configuration.md.")
    return sentences


def unknown_settings(names: Iterable[str], root: str) -> list[str]:
    """The same for the repository at root."""
    return unknown_variables(names, known_variables(root))


def internal_variables(names: Iterable[str], root: str) -> list[str]:
    """Those of the names that a role of the repository at root keeps to itself."""
    return sorted(set(known_variables(root)["internal"]).intersection(names))


def variable_names(root: str) -> list[str]:
    """Every variable that a role or playbook of the repository at root declares."""
    return known_variables(root)["variables"]


def ignored_variables(values: Mapping[str, object], given: Mapping[str, object]) -> list[str]:
    """One sentence for each variable that an inventory gives and that has another value all the same."""
    return [
        f"{name} is not a setting: Seawall works it out itself, and would not read it here. Remove it; docs/configuration.md has "
        "all settings."
        for name, value in given.items()
        if values[name] != value
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {
            "ignored_variables": ignored_variables,
            "internal_variables": internal_variables,
            "unknown_settings": unknown_settings,
            "variable_names": variable_names,
        }
