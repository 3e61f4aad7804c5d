"""./seawall backup makes a set that has been restored once before it counts."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
from pathlib import Path

import pytest
from installation import REPOSITORY, ROOT, SETTINGS, ask, containers, docker, seawall

pytestmark = pytest.mark.usefixtures("stack")


def sets() -> list[Path]:
    return sorted(path for path in (ROOT / "backups").iterdir() if path.is_dir() and not path.name.startswith("."))


def test_backup_is_published_whole(session: dict[str, str], document: str) -> None:
    for number in range(3):
        assert ask(f"/api/v1/documents/{document}/entries", "POST", {"content": str(number)}, session).status == 201
    before = sets()
    run = seawall("backup")
    assert run.code == 0, run.output[-3000:]
    (made,) = [path for path in sets() if path not in before]
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        data = (made / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    database = containers()["postgres"]["Id"]
    live = docker("exec", database, "psql", "-XAtq", "--dbname=app", "--command=SELECT count(*) FROM app.entries_document")
    assert str(manifest["tables"]["app.entries_document"]["rows"]) == live
    assert [path.name for path in (ROOT / "backups").iterdir() if path.name.startswith(".partial")] == []
    for path in [made, *made.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert made.name in seawall("status").output


def run_block(block: str) -> None:
    """Run one command block of the runbook as it stands, but against the test installation."""
    script = block.replace("/opt/seawall/", f"{ROOT}/").replace("./seawall ", "./seawall_under_test ")
    script = script.replace("./seawall_under_test backup", f"./seawall backup -e @{SETTINGS}")
    script = script.replace("./seawall_under_test deploy", f"./seawall deploy -e @{SETTINGS}")
    done = subprocess.run(["sh", "-euc", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_runbook_brings_a_backup_back(session: dict[str, str], document: str) -> None:
    """What was written before the backup is there again, and what came after it is in the database that was kept."""
    text = (REPOSITORY / "docs/runbooks/backup.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    path = f"/api/v1/documents/{document}"
    assert ask(f"{path}/entries", "POST", {"content": "before"}, session).status == 201
    run_block(blocks[0])
    assert ask(f"{path}/entries", "POST", {"content": "after"}, session).status == 201
    for block in blocks[1:]:
        run_block(block)
    assert [entry["content"] for entry in ask(path, headers=session).body["entries"]] == ["before"]
    kept = "SELECT count(*) FROM app.entries_document WHERE content = 'after'"
    database = containers()["postgres"]["Id"]
    assert docker("exec", database, "psql", "-XAtq", "--dbname=app_before", f"--command={kept}") == "1"
    assert docker("exec", database, "psql", "-XAtq", "--dbname=app", "--command=SELECT count(*) FROM seawall.grant_drift") == "0"
