"""Backups run by themselves: the timer stands, its service makes a verified set, and a failure is seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from deployed import PROJECT, ROOT, WORST_EXPOSURE, Host

SERVICE = f"{PROJECT}-backup.service"


def sets(deployed: Host) -> set[str]:
    return set(deployed.must(f"ls {ROOT}/backups").split())


def test_the_timer_runs_and_tells_when(deployed: Host) -> None:
    shown = deployed.unit("backup.timer", "LoadState", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    assert (shown["LoadState"], shown["ActiveState"], shown["UnitFileState"]) == ("loaded", "active", "enabled")
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown["NextElapseUSecRealtime"]), shown
    status = deployed.status_screen()
    assert shown["NextElapseUSecRealtime"] in status
    assert "FAILED" not in status


def test_the_unit_makes_a_verified_set(deployed: Host) -> None:
    before = sets(deployed)
    deployed.must(f"systemctl start {SERVICE}")
    (made,) = sets(deployed) - before
    assert json.loads(deployed.must(f"cat {ROOT}/backups/{made}/manifest.json"))["verified_at"]
    deployed.must(f"sh -c 'cd {ROOT}/backups/{made} && sha256sum --check manifest.json.sha256'")


def test_a_backup_that_fails_is_seen_until_one_succeeds(deployed: Host) -> None:
    before = sets(deployed)
    deployed.must(f"chown 0:0 {ROOT}/backups")
    try:
        deployed.root(f"systemctl start {SERVICE}")
        assert SERVICE in deployed.root("systemctl --failed --no-legend")
        assert f"journalctl --unit {SERVICE}" in deployed.status_screen()
        assert "cannot be written" in deployed.root(f"journalctl --no-pager --unit {SERVICE}")
    finally:
        deployed.must(f"chown 10103:10103 {ROOT}/backups")
    assert sets(deployed) == before
    deployed.must(f"systemctl start {SERVICE}")
    assert deployed.root("systemctl --failed --no-legend") == ""
    assert "FAILED" not in deployed.status_screen()


@contextmanager
def slow_backup(deployed: Host) -> Iterator[None]:
    """A run of the unit that has begun and cannot go on: somebody else holds a table that it has to read."""
    psql = f"docker exec --detach {PROJECT}-postgres-1 psql --dbname=app --command"
    deployed.must(f"{psql} 'BEGIN; LOCK TABLE app.entries_document; SELECT pg_sleep(120)'")
    try:
        deployed.must(f"systemctl start --no-block {SERVICE}")
        deployed.must(f"timeout 60 sh -c 'until ls -d {ROOT}/backups/.partial-*; do sleep 0.5; done'")
        yield
    finally:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = $$PgSleep$$"
        deployed.must(f"docker exec {PROJECT}-postgres-1 psql --dbname=app --command '{end}'")


@pytest.mark.parametrize("how", ["stop", "kill --signal=KILL"])
def test_a_run_that_is_ended_has_ended(deployed: Host, how: str) -> None:
    """The container is the engine's child, and would otherwise go on without its unit."""
    before = sets(deployed)
    with slow_backup(deployed):
        deployed.must(f"systemctl {how} {SERVICE}")
        deployed.must(f"timeout 90 sh -c 'while systemctl is-active {SERVICE} | grep ing; do sleep 0.5; done'")
        assert deployed.must("docker ps --all --quiet --filter label=com.docker.compose.service=backup") == ""
        assert SERVICE in deployed.root("systemctl --failed --no-legend")
    assert set(deployed.must(f"ls --almost-all {ROOT}/backups").split()) - {".lock"} == before
    deployed.must(f"systemctl start {SERVICE}")


def test_a_run_that_takes_too_long_has_ended(deployed: Host) -> None:
    with slow_backup(deployed):
        deployed.must(f"systemctl stop {SERVICE}")
        compose = f"docker compose --project-directory {ROOT}/compose --file {ROOT}/compose/stack.yml"
        limit = "BACKUP_TIMEOUT_SECONDS=10"
        late = deployed.root(f"sh -c '{limit} {compose} run --rm --no-deps --no-TTY backup; echo ended with $?'")
        assert late.endswith("ended with 124")
        assert deployed.must("docker ps --all --quiet --filter label=com.docker.compose.service=backup") == ""
    deployed.must(f"systemctl start {SERVICE}")


def test_a_run_without_an_engine_has_failed(deployed: Host) -> None:
    """An engine that cannot start must not make the run a thing that never was."""
    drop_in = "/run/systemd/system/docker.service.d"
    deployed.must(f"mkdir -p {drop_in}")
    deployed.must(f"sh -c 'printf \"[Service]\\nExecStartPre=/bin/false\\n\" >{drop_in}/broken.conf'")
    try:
        deployed.must("systemctl daemon-reload")
        deployed.must("systemctl stop docker.socket docker.service")
        deployed.root(f"systemctl start {SERVICE}")
        assert SERVICE in deployed.root("systemctl --failed --no-legend")
    finally:
        deployed.must(f"rm -r {drop_in}")
        deployed.must("systemctl daemon-reload")
        deployed.must("systemctl reset-failed docker.service docker.socket")
        deployed.must("systemctl start docker.service")
    deployed.must(f"systemctl start {SERVICE}")


def test_the_unit_is_shut_in(deployed: Host) -> None:
    assert deployed.exposure("backup.service") <= WORST_EXPOSURE
