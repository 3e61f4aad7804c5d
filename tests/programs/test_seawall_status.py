"""What the one screen says about backups that run by themselves."""

from __future__ import annotations

import pytest
from seawall_status import parse_properties, renewal_note, schedule_line

RUNS = {"LoadState": "loaded", "ActiveState": "active", "NextElapseUSecRealtime": "Wed 2026-11-25 03:24:11 UTC"}
GONE = {"LoadState": "not-found", "ActiveState": "inactive", "NextElapseUSecRealtime": ""}
WENT_WELL = {"ActiveState": "inactive", "Result": "success"}
FAILED = {"ActiveState": "failed", "Result": "exit-code"}


def test_properties_keep_what_stands_after_the_first_sign() -> None:
    assert parse_properties("A=b=c\nEmpty=\n\n") == {"A": "b=c", "Empty": ""}


@pytest.mark.parametrize(
    ("timer", "service", "words"),
    [
        (RUNS, WENT_WELL, ["Wed 2026-11-25 03:24:11 UTC"]),
        (RUNS | {"NextElapseUSecRealtime": ""}, {"ActiveState": "activating"}, ["is running now"]),
        (RUNS | {"NextElapseUSecRealtime": ""}, WENT_WELL, ["none", "backup_schedule.on_calendar does not come again"]),
        (RUNS | {"ActiveState": "inactive"}, WENT_WELL, ["none", "shop-backup.timer does not run", "./seawall deploy"]),
        (GONE, WENT_WELL, ["none by itself", "backup_schedule.enabled is false"]),
        (RUNS, FAILED, ["03:24:11", "FAILED (exit-code)", "journalctl --unit shop-backup.service"]),
    ],
    ids=["waits", "runs", "past", "stopped", "switched off", "failed"],
)
def test_the_schedule_and_a_failure_are_told(timer: dict[str, str], service: dict[str, str], words: list[str]) -> None:
    line = schedule_line(timer, service, "shop-backup")
    assert [word for word in words if word not in line] == []
    assert ("FAILED" in line) == (service["ActiveState"] == "failed")


def test_only_a_failed_renewal_is_told() -> None:
    assert renewal_note(WENT_WELL, "shop-acme") == ""
    assert "RENEWAL FAILED (exit-code), see journalctl --unit shop-acme.service" in renewal_note(FAILED, "shop-acme")
