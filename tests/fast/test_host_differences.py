"""Only what differs on a host is touched, and what was left half-way by a killed run counts as different."""

from __future__ import annotations

from typing import Any

from host_differences import differing_files, due_units, join_pair

ENTRY = {"path": "/etc/x.conf", "part": "x", "template": "x.j2"}
UNIT = {"unit": "x.service", "file": "/etc/x.conf"}
RUNNING = {"active": True, "enabled": True, "refused_by_condition": False, "changed_at": 100.0}


def on_disk(**fields: object) -> dict[str, Any]:
    return {"content": "a\n", "mode": "0644", "owner": 0, "changed_at": 50.0} | fields


def test_a_file_as_wanted_is_left_alone() -> None:
    assert differing_files([ENTRY], {"/etc/x.conf": "a\n"}, {"/etc/x.conf": on_disk()}) == []


def test_another_content_mode_or_owner_and_a_missing_file_differ() -> None:
    states = [on_disk(content="b\n"), on_disk(mode="0666"), on_disk(owner=1000), None]
    for state in states:
        due = differing_files([ENTRY], {"/etc/x.conf": "a\n"}, {"/etc/x.conf": state})
        assert [(entry["path"], entry["content"], entry["mode"], entry["guarded"]) for entry in due] == [
            ("/etc/x.conf", "a\n", "0644", False)
        ]


def test_a_unit_that_runs_with_the_present_file_is_left_alone() -> None:
    assert due_units([UNIT], {"x.service": RUNNING}, {"/etc/x.conf": on_disk()}, []) == []


def test_a_unit_is_restarted_for_a_file_that_changes_or_that_is_newer_than_it() -> None:
    restarted = [{"unit": "x.service", "state": "restarted"}]
    assert due_units([UNIT], {"x.service": RUNNING}, {"/etc/x.conf": on_disk()}, ["/etc/x.conf"]) == restarted
    assert due_units([UNIT], {"x.service": RUNNING}, {"/etc/x.conf": on_disk(changed_at=101.0)}, []) == restarted


def test_a_unit_that_does_not_run_is_started_unless_its_own_condition_forbids_it() -> None:
    stopped = RUNNING | {"active": False}
    assert due_units([UNIT], {"x.service": stopped}, {}, []) == [{"unit": "x.service", "state": "started"}]
    assert due_units([UNIT], {"x.service": stopped | {"refused_by_condition": True}}, {}, ["/etc/x.conf"]) == []
    assert due_units([UNIT], {}, {}, []) == [{"unit": "x.service", "state": "started"}]


def test_pairs() -> None:
    assert join_pair({"key": "net.ipv4.ip_forward", "value": 1}) == "net.ipv4.ip_forward=1"
    assert join_pair({"key": "Port", "value": "22"}, " ") == "Port 22"
