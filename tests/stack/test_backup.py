"""./seawall backup makes a set that has been restored once before it counts."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
from pathlib import Path

import pytest
from installation import REPOSITORY, ROOT, SETTINGS, ask, backup_sets, query, seawall

pytestmark = pytest.mark.usefixtures("stack")


def test_backup_is_published_whole(session: dict[str, str], document: str) -> None:
    for number in range(3):
        assert ask(f"/api/v1/documents/{document}/entries", "POST", {"content": str(number)}, session).status == 201
    before = backup_sets()
    run = seawall("backup")
    assert run.code == 0, run.output[-3000:]
    (made,) = [path for path in backup_sets() if path not in before]
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        data = (made / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    live = query("SELECT count(*) FROM app.entries_document")
    assert str(manifest["tables"]["app.entries_document"]["rows"]) == live
    assert [path.name for path in (ROOT / "backups").iterdir() if path.name.startswith(".partial")] == []
    for path in [made, *made.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert made.name in seawall("status").output


def test_where_nothing_is_installed_it_says_so_and_makes_nothing() -> None:
    root = Path("/opt/seawall-of-nobody")
    run = seawall("backup", "-e", f"seawall_root={root}")
    assert run.code != 0
    assert f"Nothing is installed under {root}. Start with ./seawall deploy." in run.output
    assert not root.exists()


def type_in(blocks: list[str]) -> None:
    """Run command blocks of the runbook one after the other in one shell, as they stand but for the test installation's name."""
    script = re.sub(r"\./seawall (\w+)", rf"./seawall \1 -e @{SETTINGS}", "\n".join(blocks).replace("/opt/seawall/", f"{ROOT}/"))
    done = subprocess.run(
        ["sh", "-euxc", script],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.requirement("BAK-01", "BEY-12")
def test_runbook_brings_a_backup_back(session: dict[str, str], document: str) -> None:
    """What was written before the backup is there again, and what came after it is in the database that was kept."""
    text = (REPOSITORY / "docs/runbooks/backup.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    path = f"/api/v1/documents/{document}"
    assert ask(f"{path}/entries", "POST", {"content": "before"}, session).status == 201
    type_in(blocks[:1])
    assert ask(f"{path}/entries", "POST", {"content": "after"}, session).status == 201
    type_in(blocks[1:])
    assert [entry["content"] for entry in ask(path, headers=session).body["entries"]] == ["before"]
    assert query("SELECT count(*) FROM app.entries_document WHERE content = 'after'", "app_before") == "1"
    assert query("SELECT count(*) FROM seawall.grant_drift") == "0"
