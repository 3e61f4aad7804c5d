"""Two deploys at once are kept apart, and a lock that a killed run has left holds nobody up."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import seawall_run
from module_run import module_run
from seawall_deploy_lock import GRACE_SECONDS
from seawall_run import is_run, machine, name_of

LIVING = ["11:1", "22:2"]
ANNA = {"who": "anna@desk", "machine": "desk", "process": "11:1", "sees_all": True, "living": LIVING}
BEN = ANNA | {"who": "ben@desk", "process": "22:2"}
ELSEWHERE = {"who": "cleo@lap", "machine": "lap", "process": "11:1", "sees_all": True, "living": ["11:1"]}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def take(lock: Path, run: dict[str, Any], *, check_mode: bool = False, **options: str) -> dict[str, Any]:
    arguments = {"path": str(lock), "verb": "deploy", "run": run, **options}
    return module_run("seawall_deploy_lock", check_mode=check_mode, arguments=arguments)


def age(lock: Path, **changes: object) -> None:
    """The lock, but taken long ago, by a run that came by a connection which is gone, unless it is said otherwise."""
    record = json.loads(lock.read_text(encoding="utf-8"))
    old = {"renewed": record["renewed"] - GRACE_SECONDS - 1, "session": "1:1"}
    lock.write_text(json.dumps(record | old | changes), encoding="utf-8")


def test_a_second_run_is_told_who_is_at_it_since_when_and_what_to_do(lock: Path) -> None:
    assert take(lock, ANNA)["changed"] is False
    answer = take(lock, BEN)
    assert answer["failed"]
    assert answer["msg"].startswith("anna@desk began a deploy on 20")
    assert "Run the same command again when it is." in answer["msg"]


def test_a_lock_that_was_given_back_is_free(lock: Path) -> None:
    take(lock, ANNA, verb="teardown")
    take(lock, BEN, state="free")
    assert "a teardown" in take(lock, BEN)["msg"], "it was not his to give"
    take(lock, ANNA, state="free")
    assert not lock.exists()
    assert not take(lock, BEN).get("failed")


def test_on_the_same_machine_a_run_holds_it_exactly_as_long_as_it_lives(lock: Path) -> None:
    take(lock, ANNA)
    age(lock)
    assert take(lock, BEN)["failed"], "however long it takes"
    taken_over = take(lock, BEN | {"living": ["22:2"]})
    assert not taken_over.get("failed")
    assert taken_over["unfinished"].startswith("anna@desk began a deploy on 20")
    assert take(lock, BEN)["unfinished"] == ""
    # The number of a process is given again one day.
    assert not take(lock, ANNA | {"living": ["11:1", "22:3"]}).get("failed")


def test_a_run_from_elsewhere_holds_it_as_long_as_its_connection(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is above the process which has SSH's variable: here, of the module, it is this test."""
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.7 50000 203.0.113.10 22")
    take(lock, ELSEWHERE)
    assert json.loads(lock.read_text(encoding="utf-8"))["session"] == "", "this test is no sshd, nor is what is above a tmux"
    called = Path("/proc/self/comm").read_text(encoding="ascii")
    Path("/proc/self/comm").write_text("sshd-session", encoding="ascii")
    try:
        take(lock, ELSEWHERE)
    finally:
        Path("/proc/self/comm").write_text(called, encoding="ascii")
    assert json.loads(lock.read_text(encoding="utf-8"))["session"] == name_of(os.getpid())
    age(lock, session=name_of(os.getpid()))
    assert take(lock, ANNA)["failed"]
    age(lock)
    assert not take(lock, ANNA).get("failed")


def test_who_cannot_see_others_believes_only_of_himself_that_he_is_gone(lock: Path) -> None:
    take(lock, ANNA)
    assert take(lock, BEN | {"living": ["22:2"], "sees_all": False})["failed"]
    assert not take(lock, ANNA | {"process": "33:3", "living": ["33:3"], "sees_all": False}).get("failed")
    take(lock, BEN)
    age(lock)
    assert not take(lock, BEN | {"living": ["22:2"], "sees_all": False}).get("failed")


def test_a_run_on_the_host_itself_holds_it_as_long_as_it_lives_whoever_asks(lock: Path) -> None:
    here = ANNA | {"machine": machine(), "process": name_of(os.getpid())}
    take(lock, here)
    age(lock)
    assert take(lock, ELSEWHERE)["failed"]
    take(lock, here, state="free")
    # One that has failed, while the shell that it was typed in, and so a session, goes on.
    take(lock, here | {"process": f"{os.getpid()}:1"})
    age(lock, session=name_of(os.getpid()))
    assert not take(lock, ELSEWHERE).get("failed")


def test_a_run_from_elsewhere_that_has_only_just_taken_it_holds_it(lock: Path) -> None:
    take(lock, ELSEWHERE)
    age(lock, renewed=json.loads(lock.read_text(encoding="utf-8"))["renewed"])
    assert take(lock, ANNA)["failed"]


def test_taken_again_it_is_as_old_as_before_and_of_the_new_connection(lock: Path) -> None:
    since = take(lock, ELSEWHERE)["since"]
    age(lock)
    assert take(lock, ELSEWHERE)["since"] == since
    assert take(lock, ANNA)["failed"]


def test_who_has_waited_long_keeps_it_where_nobody_has_had_it_meanwhile(lock: Path) -> None:
    assert take(lock, ELSEWHERE)["from_elsewhere"] is True
    age(lock)
    assert not take(lock, ELSEWHERE, state="kept").get("failed")
    assert take(lock, ANNA)["failed"]


@pytest.mark.parametrize("is_over", [True, False])
def test_who_has_lost_it_meanwhile_goes_no_further(lock: Path, is_over: bool) -> None:
    """What such a run knows of the host is old: it would start the colour anew that another run has put in charge."""
    take(lock, ELSEWHERE)
    age(lock)
    take(lock, BEN)
    if is_over:
        take(lock, BEN, state="free")
    answer = take(lock, ELSEWHERE, state="kept")
    assert answer["failed"]
    assert "Run ./seawall deploy again" in answer["msg"]
    assert ("ben@desk" in answer["msg"]) != is_over
    assert bool(take(lock, ANNA).get("failed")) != is_over


def test_a_run_on_the_host_itself_needs_no_connection(lock: Path) -> None:
    assert take(lock, ANNA | {"machine": machine(), "process": name_of(os.getpid())})["from_elsewhere"] is False


def test_a_boot_ends_it_and_the_next_run_tells(lock: Path) -> None:
    take(lock, ANNA)
    age(lock, boot="another one")
    taken = take(lock, BEN)
    assert not taken.get("failed")
    assert taken["unfinished"].startswith(ANNA["who"])


@pytest.mark.parametrize("text", ["", '{"who": "an'])
def test_a_lock_that_was_not_written_to_its_end_is_nobodys(lock: Path, text: str) -> None:
    lock.write_text(text, encoding="utf-8")
    assert not take(lock, BEN).get("failed")


def test_a_check_run_takes_nothing_and_is_not_refused(lock: Path) -> None:
    assert not take(lock, ANNA, check_mode=True).get("failed")
    assert not lock.exists()
    take(lock, ANNA)
    assert not take(lock, BEN, check_mode=True).get("failed")


@pytest.mark.parametrize(("name", "counts"), [("tmux", False), ("SCREEN", False), ("sudo", True)])
def test_the_server_of_a_terminal_is_no_run(name: str, counts: bool) -> None:
    """It bears the words of the command that it was begun with, and lives on when that is over."""
    code = "import sys; sys.stdin.read()"
    words = [name, "-c", code, "ansible-playbook"]
    with subprocess.Popen(words, executable=sys.executable, stdin=subprocess.PIPE) as server:
        deadline = time.monotonic() + 20
        while "ansible-playbook" not in Path(f"/proc/{server.pid}/cmdline").read_text(encoding="utf-8"):
            assert time.monotonic() < deadline
        assert is_run(server.pid) == counts
        assert server.stdin
        server.stdin.close()


def test_of_many_at_once_one_gets_it(lock: Path) -> None:
    living = [f"{number}:1" for number in range(12)]
    runs = [ANNA | {"who": f"{name}@desk", "process": name, "living": living} for name in living]
    with ThreadPoolExecutor(len(runs)) as pool:
        answers = list(pool.map(lambda run: take(lock, run), runs))
    assert [bool(answer.get("failed")) for answer in answers].count(False) == 1


@pytest.mark.parametrize("options", [[], ["-s", "-P", "-u"]], ids=["plain", "an interpreter with options"])
def test_a_run_is_its_ansible_playbook_whoever_asks_within_it(tmp_path: Path, options: list[str]) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(
        "import json, os, subprocess, sys\n"
        "from seawall_run import LookupModule, name_of\n"
        "if os.fork() == 0:\n"
        "    print(json.dumps([name_of(os.getppid()), LookupModule().run([])[0]]), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "plugins/lookup"), "SUDO_USER": ""}
    done = subprocess.run([sys.executable, *options, str(program)], env=environment, capture_output=True, text=True, check=True)
    parent, run = json.loads(done.stdout)
    assert run["process"] == parent
    assert parent in run["living"]
    assert run["machine"] == machine()
    assert run["who"].startswith(f"{getpass.getuser()}@")
    assert name_of(int(parent.partition(":")[0])) == "", "it has ended"


@pytest.mark.parametrize("then", ["another has it", "it is removed"])
def test_who_comes_while_another_writes_waits_and_reads_what_that_wrote(lock: Path, then: str) -> None:
    take(lock, ANNA)
    written = lock.read_text(encoding="utf-8")
    lock.write_text("", encoding="utf-8")
    with lock.open("r+", encoding="utf-8") as stream, ThreadPoolExecutor(1) as pool:
        fcntl.flock(stream, fcntl.LOCK_EX)
        answer = pool.submit(take, lock, BEN)
        with suppress(TimeoutError):
            answer.result(timeout=3)
        if then == "it is removed":
            lock.unlink()
        else:
            stream.write(written)
            stream.flush()
        fcntl.flock(stream, fcntl.LOCK_UN)
    assert bool(answer.result().get("failed")) == (then == "another has it")
    record = json.loads(lock.read_text(encoding="utf-8"))
    assert record["who"] == ("anna@desk" if then == "another has it" else "ben@desk")


def test_the_lock_is_a_file_of_its_own_that_others_cannot_read(lock: Path) -> None:
    take(lock, ANNA)
    assert lock.stat().st_mode & 0o777 == 0o600
    lock.rename(lock.with_name("other"))
    lock.symlink_to("other")
    refused = take(lock, BEN | {"living": ["22:2"]})
    assert refused["failed"]
    assert f"{lock}: Too many levels of symbolic links. Remove on the host what is there" in refused["msg"]
    assert json.loads(lock.with_name("other").read_text(encoding="utf-8"))["who"] == "anna@desk"


def test_a_run_on_the_host_that_has_ended_and_is_not_reaped_does_not_live(lock: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as ended:
        take(lock, ANNA | {"machine": machine(), "process": name_of(ended.pid)})
        assert take(lock, ELSEWHERE)["failed"]
        ended.kill()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert not take(lock, ELSEWHERE).get("failed")


def test_who_asks_for_what_nobody_has_leaves_no_lock(lock: Path) -> None:
    assert take(lock, ELSEWHERE, state="kept")["failed"]
    assert not lock.exists()


def test_a_run_that_is_started_as_a_module_is_one_and_names_who_stands_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stdin.read()"
    words = ["python3", "-c", code, "-m", "ansible", "playbook", "playbooks/deploy.yml"]
    with subprocess.Popen(words, executable=sys.executable, stdin=subprocess.PIPE) as started:
        deadline = time.monotonic() + 20
        while "playbook" not in Path(f"/proc/{started.pid}/cmdline").read_text(encoding="utf-8"):
            assert time.monotonic() < deadline
        assert is_run(started.pid)
        monkeypatch.setattr(seawall_run, "this_run", lambda: name_of(started.pid))
        monkeypatch.setenv("SUDO_USER", "anna")
        (run,) = seawall_run.LookupModule().run([])
        assert started.stdin
        started.stdin.close()
    assert run["who"].startswith("anna@")
    assert run["process"] in run["living"]
