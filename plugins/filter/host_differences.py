"""What a host has and what it should have, compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def join_pair(item: Mapping[str, Any], separator: str = "=") -> str:
    """A key and its value as one text."""
    return f"{item['key']}{separator}{item['value']}"


def differing_files(
    entries: Iterable[Mapping[str, Any]], wanted: Mapping[str, str], found: Mapping[str, Mapping[str, Any] | None]
) -> list[dict[str, Any]]:
    """The entries whose file on the host has another content, mode or owner, each with the content that it should have."""
    due: list[dict[str, Any]] = []
    for entry in entries:
        state = found.get(entry["path"]) or {}
        is_as_wanted = (wanted[entry["path"]], entry.get("mode", "0644"), 0)
        if (state.get("content"), state.get("mode"), state.get("owner")) != is_as_wanted:
            due.append({"mode": "0644", "guarded": False, **entry, "content": wanted[entry["path"]]})
    return due


def due_units(
    wanted: Iterable[Mapping[str, Any]],
    units: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Mapping[str, Any] | None],
    due_paths: Iterable[str],
) -> list[dict[str, str]]:
    """The units that must be started, or restarted because they run with an older file than the one on the disk."""
    changing = set(due_paths)
    due: list[dict[str, str]] = []
    for entry in wanted:
        unit, path = units.get(entry["unit"], {}), entry.get("file", "")
        written_at = (files.get(path) or {}).get("changed_at", 0.0)
        if unit.get("active") and (path in changing or written_at > unit["changed_at"]):
            due.append({"unit": entry["unit"], "state": "restarted"})
        elif not unit.get("enabled") or not (unit.get("active") or unit.get("refused_by_condition")):
            due.append({"unit": entry["unit"], "state": "started"})
    return due


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {"join_pair": join_pair, "differing_files": differing_files, "due_units": due_units}
