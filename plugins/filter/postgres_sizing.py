"""Postgres memory settings from the container's limits, and the settings that nobody may override."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

MIB = 1024**2
GIB = 1024**3
UNITS = {"": 1, "b": 1, "k": 1024, "m": MIB, "g": GIB}
SIZE = re.compile(r"^(\d+)([bkmg]?)b?$")
SETTING_NAME = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$")

# Workers of the server itself that may use work_mem beside the clients.
BACKGROUND_WORKERS = 8

ON = frozenset({"on"})
OFF = frozenset({"off"})
# A setting that, with any other value, loses data or opens the server.
ALLOWED_VALUES: Mapping[str, frozenset[str]] = {
    "allow_alter_system": OFF,
    "data_sync_retry": OFF,
    "event_triggers": ON,
    "fsync": ON,
    "full_page_writes": ON,
    "ignore_checksum_failure": OFF,
    "ignore_invalid_pages": OFF,
    "jit": OFF,
    "password_encryption": frozenset({"scram-sha-256"}),
    "session_replication_role": frozenset({"origin"}),
    "synchronous_commit": frozenset({"on", "local", "remote_write", "remote_apply"}),
    "wal_level": frozenset({"replica", "logical"}),
    "zero_damaged_pages": OFF,
}
# A setting that the role or the image decides: another value would cut the server off from its files or clients.
MANAGED = frozenset(
    {
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "include",
        "include_dir",
        "include_if_exists",
        "listen_addresses",
        "port",
        "reserved_connections",
        "superuser_reserved_connections",
        "unix_socket_directories",
        "unix_socket_permissions",
    }
)
# Commands that say "archived" without having archived anything.
EMPTY_COMMANDS = frozenset({"true", "/bin/true", "/usr/bin/true", ":", "exit 0"})
WORDS = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}


def memory_bytes(size: str | int) -> int:
    """Bytes of a size as Docker writes it: 512m, 1g, 1073741824."""
    match = SIZE.match(str(size).strip().lower())
    if not match:
        raise AnsibleFilterError(f"{size!r} is no memory size: write a whole number and k, m or g, for example 512m or 2g")
    return int(match[1]) * UNITS[match[2]]


def mebibytes(size: float) -> str:
    return f"{int(size // MIB)}MB"


def clamp(value: float, lowest: int, highest: int) -> float:
    return max(lowest, min(value, highest))


def postgres_sizing(memory: str | int, cpus: float, connections: int) -> dict[str, str]:
    """Settings that follow from the container's limits (never from the host's size)."""
    limit = memory_bytes(memory)
    buffers = limit / 4
    large = limit >= 4 * GIB
    sizing = {
        "shared_buffers": mebibytes(buffers),
        "effective_cache_size": mebibytes(limit * 3 / 4),
        "maintenance_work_mem": mebibytes(clamp(limit / 16, 16 * MIB, 2 * GIB)),
        "work_mem": mebibytes(clamp((limit - buffers) / ((connections + BACKGROUND_WORKERS) * 3), 4 * MIB, GIB)),
        "wal_buffers": mebibytes(clamp(buffers * 0.03, MIB, 16 * MIB)),
        "min_wal_size": "1GB" if large else "256MB",
        "max_wal_size": "4GB" if large else "1GB",
        "huge_pages": "try" if buffers >= 2 * GIB else "off",
    }
    cores = int(float(cpus))
    if cores >= 4:
        sizing |= {
            "max_worker_processes": str(max(8, cores)),
            "max_parallel_workers": str(cores),
            "max_parallel_workers_per_gather": str(min(4, cores // 2)),
            "max_parallel_maintenance_workers": str(min(4, cores // 2)),
        }
    else:
        sizing["max_parallel_workers_per_gather"] = "1" if cores >= 2 else "0"
    return sizing


def normalised(value: object) -> str:
    """A setting's value in the one spelling that the lists above use."""
    word = str(value).strip().lower()
    return WORDS.get(word, word)


def refusal(name: str, value: object) -> str | None:
    """Why this override is refused, or None."""
    word = normalised(value)
    if not SETTING_NAME.match(name):
        return f"{name!r} is no name of a Postgres setting (lower case letters, digits, underscores)"
    if not isinstance(value, str | int | float):
        return f"{name} is neither text, a number nor a boolean"
    if "\n" in str(value) or "\r" in str(value):
        return f"{name} holds a line break"
    if name == "max_connections":
        return "max_connections belongs in postgres_connections.max, from which the limits of the roles follow"
    if name in MANAGED:
        return f"{name} is fixed by the image and the stack; remove it"
    allowed = ALLOWED_VALUES.get(name)
    if allowed is not None and word not in allowed:
        return f"{name}={word} would lose data or protection; allowed: {', '.join(sorted(allowed))}"
    if name == "archive_command" and word in EMPTY_COMMANDS:
        return f"archive_command={word} throws the write-ahead log away and reports success"
    return None


def postgres_refusals(settings: Mapping[str, object]) -> list[str]:
    """One sentence for each override that is refused."""
    return [reason for name, value in sorted(settings.items()) if (reason := refusal(str(name), value))]


def postgres_setting_lines(settings: Mapping[str, Any]) -> str:
    """Lines for postgresql.conf, sorted by name."""
    lines = []
    for name, value in sorted(settings.items()):
        text = ("on" if value else "off") if isinstance(value, bool) else str(value)
        lines.append(f"{name} = '{text.replace(chr(92), chr(92) * 2).replace(chr(39), chr(39) * 2)}'")
    return "\n".join(lines)


class FilterModule:
    """Filters for the roles postgres and cache."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "memory_bytes": memory_bytes,
            "postgres_sizing": postgres_sizing,
            "postgres_refusals": postgres_refusals,
            "postgres_setting_lines": postgres_setting_lines,
        }
