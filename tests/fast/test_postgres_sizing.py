"""Postgres's settings follow from the container's limits, and none that loses data can be overridden."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from postgres_sizing import ALLOWED_VALUES, MANAGED, memory_bytes, postgres_refusals, postgres_setting_lines, postgres_sizing


@pytest.mark.parametrize(
    ("size", "expected"),
    [("512m", 512 * 1024**2), ("1g", 1024**3), ("1G", 1024**3), ("2gb", 2 * 1024**3), ("64k", 65536), (7, 7)],
)
def test_sizes_are_read_as_docker_reads_them(size: str | int, expected: int) -> None:
    assert memory_bytes(size) == expected


@pytest.mark.parametrize("size", ["", "1.5g", "1t", "-1m", "much", "1 g"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(AnsibleFilterError, match="no memory size"):
        memory_bytes(size)


@pytest.mark.parametrize(
    ("memory", "cpus", "expected"),
    [
        (
            "1g",
            1,
            {"shared_buffers": "256MB", "effective_cache_size": "768MB", "maintenance_work_mem": "64MB", "work_mem": "4MB"},
        ),
        ("2g", 2, {"shared_buffers": "512MB", "work_mem": "7MB", "max_parallel_workers_per_gather": "1", "max_wal_size": "1GB"}),
        ("4g", 2, {"shared_buffers": "1024MB", "work_mem": "15MB", "max_wal_size": "4GB", "huge_pages": "off"}),
        (
            "8g",
            4,
            {
                "shared_buffers": "2048MB",
                "max_parallel_workers": "4",
                "max_parallel_workers_per_gather": "2",
                "huge_pages": "try",
            },
        ),
        (
            "16g",
            8,
            {
                "shared_buffers": "4096MB",
                "work_mem": "60MB",
                "max_parallel_workers": "8",
                "max_parallel_maintenance_workers": "4",
            },
        ),
    ],
)
def test_settings_follow_from_the_limits(memory: str, cpus: float, expected: dict[str, str]) -> None:
    sizing = postgres_sizing(memory, cpus, 60)
    assert {name: sizing[name] for name in expected} == expected


@pytest.mark.parametrize("memory", ["256m", "512m", "1g", "4g", "64g"])
def test_the_server_fits_into_its_container(memory: str) -> None:
    """Buffers, and a quarter of the clients each in one sort, beside three autovacuum workers."""
    sizing = postgres_sizing(memory, 2, 100)
    megabytes = {name: int(value.removesuffix("MB")) for name, value in sizing.items() if value.endswith("MB")}
    used = megabytes["shared_buffers"] + 25 * megabytes["work_mem"] + 3 * megabytes["maintenance_work_mem"]
    assert used * 1024**2 <= memory_bytes(memory)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", False),
        ("fsync", "off"),
        ("fsync", "of"),
        ("fsync", 0),
        ("full_page_writes", "no"),
        ("synchronous_commit", "off"),
        ("zero_damaged_pages", True),
        ("ignore_checksum_failure", "on"),
        ("wal_level", "minimal"),
        ("data_sync_retry", "on"),
        ("event_triggers", "off"),
        ("allow_alter_system", True),
        ("password_encryption", "md5"),
        ("archive_command", "/bin/true"),
        ("max_connections", 500),
        ("hba_file", "/etc/other_hba.conf"),
        ("include", "/etc/other.conf"),
        ("Fsync", "off"),
        ("work_mem = '1MB'\nfsync", "off"),
        ("work_mem", "1MB'\nfsync = off"),
        ("work_mem", "1MB'\rfsync = off"),
        ("work_mem", None),
        ("shared_preload_libraries", ["auto_explain"]),
    ],
)
def test_dangerous_settings_are_refused(name: str, value: object) -> None:
    (reason,) = postgres_refusals({name: value, "work_mem_": "8MB"})
    assert name.strip() in reason.replace("\\n", "\n").replace("\\'", "'") or repr(name) in reason


def test_safe_values_of_guarded_settings_pass() -> None:
    safe: dict[str, object] = {
        "fsync": True,
        "synchronous_commit": "remote_apply",
        "zero_damaged_pages": "no",
        "wal_level": "logical",
    }
    assert postgres_refusals(safe | {"work_mem": "8MB", "auto_explain.log_min_duration": 100}) == []
    assert not set(ALLOWED_VALUES) & MANAGED


def test_values_are_quoted_for_the_file() -> None:
    lines = postgres_setting_lines({"b": "it's", "a": True, "c": 3, "d": "back\\slash"})
    assert lines == "a = 'on'\nb = 'it''s'\nc = '3'\nd = 'back\\\\slash'"
