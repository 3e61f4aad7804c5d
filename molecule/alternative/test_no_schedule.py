"""With the schedule switched off nothing of it is on the host, and the status screen says so."""

from __future__ import annotations

from deployed import Host


def test_no_backup_runs_by_itself(deployed: Host) -> None:
    shown = deployed.unit("backup.timer", "LoadState", "ActiveState")
    assert (shown["LoadState"], shown["ActiveState"]) == ("not-found", "inactive")
    assert deployed.unit("backup.service", "LoadState") == {"LoadState": "not-found"}
    status = deployed.status_screen()
    assert "backup_schedule.enabled is false" in status
    assert "FAILED" not in status
