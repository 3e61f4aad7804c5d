"""What further runs of ./seawall do to an installation that serves: as little as possible, and never harm."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest
from conftest import FIRST_SIGN_IN, Stack
from installation import (
    PROJECT,
    REPOSITORY,
    ROOT,
    SETTINGS,
    Run,
    all_secrets,
    ask,
    backup_sets,
    connect,
    containers,
    docker,
    query,
    running,
    seawall,
    shown,
)
from process_tree import descendants

pytestmark = pytest.mark.usefixtures("stack")
SERVICE = re.compile(r"(api|auth)-(blue|green)")
# Each of the two workers waits this long before a request, which keeps both together below the edge's 20 a second.
PAUSE = 0.1
# Both kinds of letters, which no hash has.
GENERATED_PASSWORD = re.compile(r"(?<![\w+/=])(?=\w*[A-Z])(?=\w*[a-z])[2-9A-HJ-NP-Za-km-z]{32}(?![\w+/=])")
# Gives a program a terminal of its own, without which Ansible asks nobody.
ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def others(state: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """What runs beside the service's own containers."""
    return {name: value for name, value in state.items() if not SERVICE.fullmatch(name)}


def touched(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> set[str]:
    """Services that were started, stopped or made anew."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def reusable_seconds() -> int:
    """How long nginx may go on using a connection to the colour that was in charge before."""
    text = (ROOT / "nginx/http/upstream.conf").read_text(encoding="utf-8")
    limits = [int(number) for number in re.findall(r"keepalive_time(?:out)? (\d+)s;", text)]
    assert len(limits) == 4, limits
    return sum(limits[:2])


def told_to_stop(name: str) -> float:
    """When a service was last told to, by the clock."""
    times = re.findall(
        r"^(\S{26})\S*Z .*Handling signal: term", docker("logs", "--timestamps", containers()[name]["Id"]), re.MULTILINE
    )
    return datetime.fromisoformat(f"{times[-1]}+00:00").timestamp()


def make_new_release(checkout: Path) -> None:
    """Change the service's code as no run before has: an image that an earlier run has left would not be built."""
    path = checkout / "app/seawall_service/health.py"
    path.write_text(f"{path.read_text(encoding='utf-8')}\nCHANGED_AT = {time.time_ns()}\n", encoding="utf-8")


def succeeds(run: Run) -> Run:
    assert run.code == 0, run.output[-5000:]
    return run


class Client:
    """One connection to the edge, kept alive as browsers keep it."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.connection = connect()
        self.headers = headers | {"Content-Type": "application/json"}

    def status(self, method: str, path: str, body: object = None) -> int:
        """The answer's status, or 0 where there was none."""
        kept = self.connection.sock is not None
        data = None if body is None else json.dumps(body)
        try:
            self.connection.request(method, path, body=data, headers=self.headers)
            response = self.connection.getresponse()
            response.read()
        except http.client.RemoteDisconnected:
            # The edge may close a kept connection at any time. A read is then sent again, and of a write nobody knows.
            return self.status(method, path) if kept and method == "GET" else 0
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return 0
        return response.status


@contextmanager
def load(session: dict[str, str], document: str) -> Iterator[list[int]]:
    """Append entries and read, one after the other, while the block runs; yields the statuses seen."""
    path = f"/api/v1/documents/{document}"
    seen: list[int] = []
    stop = threading.Event()

    def worker(number: int) -> None:
        client = Client(session)
        for count in itertools.count():
            if stop.wait(PAUSE):
                return
            seen.append(client.status("POST", f"{path}/entries", {"content": f"{number}-{count}"}))
            if stop.wait(PAUSE):
                return
            seen.append(client.status("GET", path))

    threads = [threading.Thread(target=worker, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)


def entries_of(document: str, session: dict[str, str]) -> list[str]:
    """All entries, page by page."""
    found: list[str] = []
    after = 0
    while after is not None:
        page = ask(f"/api/v1/documents/{document}?limit=1000&after={after}", headers=session).body
        found += [entry["content"] for entry in page["entries"]]
        after = page["next_entry"]
    return found


def test_second_run_changes_nothing_when_typed_as_plain_ansible_playbook() -> None:
    """From the checkout alone: nothing that ./seawall or the tests' own runner export."""
    before = running()
    command = [".venv/bin/ansible-playbook", "playbooks/deploy.yml", "-e", f"@{SETTINGS}"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(command, cwd=REPOSITORY, env=plain, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\bchanged=0\b", done.stdout)
    assert running() == before


def test_changed_secret_is_neither_made_nor_shown_by_a_check(stack: Stack) -> None:
    """A lost secret would be made anew, and what reads it started anew; --diff prints neither the old value nor a new one."""
    path = ROOT / "secrets/cache_password"
    kept, owner = path.read_bytes(), path.stat().st_uid
    assert GENERATED_PASSWORD.fullmatch(kept.decode())
    before = running()
    path.unlink()
    try:
        run = succeeds(seawall("deploy", "--check", "--diff", "-vvv"))
        assert not path.exists()
    finally:
        path.write_bytes(kept)
        path.chmod(0o400)
        os.chown(path, owner, owner)
    assert run.recap["changed"] >= 1
    assert running() == before
    assert shown(all_secrets() | {"first user": stack.password}, run.output) == []
    assert GENERATED_PASSWORD.search(run.output) is None


def test_a_password_that_cannot_be_left_is_kept_for_the_next_run() -> None:
    """As after a run that was killed when it had made the first user, and had told nobody yet."""
    waiting, password = ROOT / "secrets/first_user_password", "a".join(["Kept2Until3It4Is5Left"] * 2)
    waiting.write_text(password, encoding="ascii")
    nowhere = {"auth_first_user": {"name": "admin", "show_in": "/dev/null/first-sign-in"}}
    run = seawall("deploy", "--extra-vars", json.dumps(nowhere))
    assert run.code != 0
    said = " ".join(run.output.rpartition("fatal:")[2].split())
    for words in (
        "/dev/null/first-sign-in cannot be written on this machine: ",
        "nothing was released",
        "./seawall deploy again",
    ):
        assert words in said, said
    assert password not in run.output
    assert waiting.read_text(encoding="ascii") == password
    succeeds(seawall("deploy"))
    left = FIRST_SIGN_IN.read_text(encoding="utf-8")
    FIRST_SIGN_IN.unlink()
    assert re.search(rf"^password: +{password}$", left, re.MULTILINE)
    assert not waiting.exists()


def test_status_is_one_screen() -> None:
    run = succeeds(seawall("status"))
    for word in ("services", "release", "schema", "certificate", "days left", "last backup", "disk"):
        assert word in run.output, word
    assert "unknown" not in run.output
    for name in running():
        assert re.search(rf"\b{name} +running healthy +seawall/", run.output), name


def test_release_that_never_gets_ready_is_not_put_in_charge(checkout: Path, session: dict[str, str]) -> None:
    before, link = running(), (ROOT / "upstream/current").readlink()
    with (checkout / "app/seawall_service/asgi.py").open("a", encoding="utf-8") as code:
        code.write('\nraise SystemExit("broken on purpose")\n')
    run = seawall("deploy", "-e", '{"api_release": {"ready_timeout_seconds": 20}}', checkout=checkout)
    assert run.code != 0
    assert "keeps serving" in run.output
    assert "broken on purpose" in run.output
    assert (running(), (ROOT / "upstream/current").readlink()) == (before, link)
    assert ask("/api/v1/documents", headers=session).status == 200


def test_failed_migration_stops_before_the_release(checkout: Path, session: dict[str, str]) -> None:
    before = running()
    versions = checkout / "app/migrations/versions"
    newest = max(versions.glob("*.py")).read_text(encoding="utf-8")
    revision = re.search(r"^revision[^=]*= ['\"]([^'\"]+)", newest, re.MULTILINE)
    assert revision
    (versions / "9999_broken.py").write_text(
        "from alembic import op\n\n"
        f"revision = '9999'\ndown_revision = '{revision[1]}'\nbranch_labels = None\ndepends_on = None\n\n\n"
        "def upgrade() -> None:\n"
        "    op.execute('CREATE TABLE proj_half_done (id bigint)')\n"
        "    op.execute('CREATE TABLE name_of_no_class (id bigint)')\n",
        encoding="utf-8",
    )
    sets = backup_sets()
    run = seawall("deploy", checkout=checkout)
    assert run.code != 0
    assert "keeps serving" in run.output
    assert "name_of_no_class" in run.output
    assert set(backup_sets()) > set(sets), "no backup was made before the schema would have changed"
    assert query("SELECT to_regclass('app.proj_half_done') IS NULL") == "t"
    assert running() == before
    assert ask("/api/v1/documents", headers=session).status == 200


def test_what_does_not_start_says_why_and_what_to_do(checkout: Path, session: dict[str, str]) -> None:
    with (checkout / "compose/images/cache/Dockerfile").open("a", encoding="utf-8") as image:
        image.write('CMD ["sh", "-c", "echo broken on purpose >&2; exit 9"]\n')
    try:
        run = seawall("deploy", checkout=checkout)
        # Nothing but counts and copies is in there.
        assert ask("/api/v1/documents", headers=session).status == 200
    finally:
        succeeds(seawall("deploy"))
    assert run.code != 0
    said = " ".join(run.output.rpartition("fatal:")[2].split())
    for words in ("cache did not start", "broken on purpose", "Mend the cause and run ./seawall deploy again"):
        assert words in said, said


def test_a_schema_of_a_newer_release_stops_an_older_one(checkout: Path, session: dict[str, str]) -> None:
    before, schema = running(), query("SELECT version_num FROM app.alembic_version")
    with (checkout / "app/seawall_service/asgi.py").open("a", encoding="utf-8") as code:
        code.write("\n# An older release.\n")
    query("UPDATE app.alembic_version SET version_num = '9' || version_num")
    try:
        run = seawall("deploy", checkout=checkout)
    finally:
        query("UPDATE app.alembic_version SET version_num = substr(version_num, 2)")
    assert run.code != 0
    said = " ".join(run.output.rpartition("fatal:")[2].split())
    for words in (
        "nothing was migrated or released: the release that was running keeps serving",
        f"at revision 9{schema}",
        "run ./seawall deploy",
    ):
        assert words in said, said
    assert running() == before
    assert ask("/api/v1/documents", headers=session).status == 200


@pytest.mark.requirement("BEY-01")
def test_changed_code_replaces_only_the_service_and_loses_nothing(checkout: Path, session: dict[str, str], document: str) -> None:
    """And the failures of the tests before are not in the way of this run."""
    before = running()
    colour = (ROOT / "upstream/current").readlink()
    make_new_release(checkout)
    with load(session, document) as seen:
        succeeds(seawall("deploy", checkout=checkout))
    after = running()
    assert others(after) == others(before)
    assert (ROOT / "upstream/current").readlink() != colour
    assert set(after) - set(others(after)) == {f"{name}-{(ROOT / 'upstream/current').readlink()}" for name in ("api", "auth")}
    # The race for a connection that the old colour closes is rarely lost; what rules it out is the wait.
    in_charge_since = (ROOT / "upstream/current").lstat().st_mtime
    assert min(told_to_stop(f"{name}-{colour}") for name in ("api", "auth")) - in_charge_since >= reusable_seconds()
    assert min(seen.count(200), seen.count(201)) > 10
    assert set(seen) <= {200, 201, 429}
    stored = entries_of(document, session)
    assert len(stored) == len(set(stored)) == seen.count(201)


def deploy_and_kill_in(task: str, checkout: Path) -> None:
    """Start a deploy and kill it, with all it has started on this machine, shortly after a task began."""
    command = ["./seawall", "deploy", "-e", f"@{SETTINGS}"]
    # Where skipped tasks are not shown, a task is told of when its first result is there.
    environment = os.environ | {"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    with subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if task in line:
                break
        else:
            pytest.fail(f"the run ended without the task {task}")
        time.sleep(0.4)
        for victim in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)


# In the order in which a release comes to them; molecule/interrupted has the other tasks.
KILLED_IN = [
    "images : Build",
    "api : Start ",
    "api : Put in charge",
    "api : Wait until the edge can reuse",
    "api : Let it finish and stop",
]


@pytest.mark.requirement("BEY-18")
def test_killed_runs_do_no_harm_and_the_next_one_converges(stack: Stack, checkout: Path, document: str) -> None:
    """Each run goes on from what the one before has left, and is killed some tasks later."""
    make_new_release(checkout)
    entries = []
    for task in KILLED_IN:
        entries.append(f"before the kill in {task}")
        entry = {"content": entries[-1]}
        assert ask(f"/api/v1/documents/{document}/entries", "POST", entry, stack.session()).status == 201
        deploy_and_kill_in(task, checkout)
        assert ask("/healthz").status == 200
        assert entries_of(document, stack.session()) == entries
    finished, again = (succeeds(seawall("deploy", checkout=checkout)) for _ in range(2))
    assert "began a deploy on" in finished.output
    assert "which did not come to its end" in " ".join(finished.output.split())
    assert "did not come to its end" not in again.output
    assert again.recap["changed"] == 0
    colour = (ROOT / "upstream/current").readlink()
    assert {name for name in running() if SERVICE.fullmatch(name)} == {f"api-{colour}", f"auth-{colour}"}
    assert entries_of(document, stack.session()) == entries


def answered(reply: str, *arguments: str) -> tuple[int, str]:
    """Run ./seawall on a terminal and type a reply to its question: the exit code, and what the terminal showed."""
    command = [sys.executable, "-c", ON_A_TERMINAL, "./seawall", *arguments[:1], "-e", f"@{SETTINGS}", *arguments[1:]]
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1"}
    shown = b""
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin
        assert process.stdout
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if select.select([process.stdout], [], [], 1)[0]:
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    break
                shown += piece
            elif b"to go on:" in shown:
                # Typed once nothing more is shown, since Ansible drops what came before its question.
                process.stdin.write(f"{reply}\r".encode())
                process.stdin.flush()
        else:
            process.kill()
    return process.returncode, " ".join(shown.decode(errors="replace").split())


def test_teardown_asks() -> None:
    before = running()
    code, shown = answered("yes", "teardown")
    assert f"Type {PROJECT} to go on:" in shown
    assert "Nothing was removed" in shown
    assert code != 0
    assert running() == before


@pytest.mark.parametrize("confirmation", [[], ["-e", "confirm=something"]], ids=["no terminal", "wrong name"])
def test_teardown_removes_nothing_unconfirmed(confirmation: list[str]) -> None:
    before = running()
    refused = seawall("teardown", *confirmation)
    assert refused.code != 0
    assert "Nothing was removed" in refused.output
    assert running() == before


def test_lost_database_volume_is_not_replaced_by_an_empty_one() -> None:
    """Last of all: it destroys the database."""
    succeeds(seawall("teardown", "-e", f"confirm={PROJECT}"))
    docker("volume", "rm", f"{PROJECT}_pgdata")
    run = seawall("deploy")
    assert run.code != 0
    assert "holds no database" in run.output
    assert "postgres" not in containers()
