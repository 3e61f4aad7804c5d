"""Parts of the tests that run beside each other: each runs once, is heard, and fails the whole when it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The stack says some time after its start that the others may use the engine.
PART = """#!/bin/sh
echo "began $1" >>"$SEAWALL_TEST_LOGS/.order"
case $1 in
stack)
    sleep 0.5
    echo "engine stays" >>"$SEAWALL_TEST_LOGS/.order"
    [ -e silent ] || touch "$SEAWALL_TEST_ENGINE_STAYS"
    ;;
lint | fast | host:engine)
    sleep 0.2
    echo "ended $1" >>"$SEAWALL_TEST_LOGS/.order"
    ;;
esac
[ "$1" != killed ] || kill -KILL "$PPID"
if waits=$(grep "^$1 " waits 2>/dev/null); then
    for _ in $(seq 200); do
        [ "$(grep --count began "$SEAWALL_TEST_LOGS/.order")" -lt "${waits#* }" ] || break
        sleep 0.1
    done
fi
echo "this is $1"
! grep --quiet "^$1$" failing || printf '  │ E   assert 1 == 2\nFAILED %s\n' "$1"
! grep --quiet "^$1$" failing
"""


def together(directory: Path, *parts: str, failing: str = "", left: Sequence[str] = ()) -> tuple[int, str, list[str]]:
    """Exit code, what was said, and what happened in which order."""
    logs = directory / "logs"
    (directory / "tests").mkdir()
    logs.mkdir()
    for name in ("together", "beside"):
        shutil.copy(ROOT / "tests" / name, directory / "tests")
    part = directory / "tests/part"
    part.write_text(PART, encoding="utf-8")
    part.chmod(0o755)
    (directory / "failing").write_text(f"{failing}\n", encoding="utf-8")
    environment = os.environ | {"SEAWALL_TEST_LOGS": str(logs), "SEAWALL_TEST_ENGINE_STAYS": str(directory / "stays")}
    done = subprocess.run(
        ["tests/together", *parts],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert [path.name for path in logs.iterdir() if not path.name.startswith(".")] == list(left)
    return done.returncode, done.stdout, (logs / ".order").read_text(encoding="utf-8").splitlines()


def at_the_end(said: str) -> list[str]:
    return said.partition("=== parts, as they ended\n")[2].splitlines()


ALL = ("stack", "lint", "fast", "app", "host:default", "acme")


def test_each_runs_once_and_is_heard(tmp_path: Path) -> None:
    code, said, order = together(tmp_path, *ALL)
    assert code == 0
    assert sorted(line for line in order if line.startswith("began")) == sorted(f"began {part}" for part in ALL)
    for part in ALL:
        assert said.count(f"=== {part}: passed after ") == said.count(f"this is {part}\n") == 1
    assert sorted(line.split(" after")[0] for line in at_the_end(said)) == sorted(f"{part}: passed" for part in ALL)


def test_what_needs_the_engine_waits_until_it_stays(tmp_path: Path) -> None:
    _, _, order = together(tmp_path, *ALL)
    stays = order.index("engine stays")
    assert {line for line in order[:stays] if line.startswith("began")} == {"began stack", "began lint", "began fast"}


def test_those_that_leave_the_processors_to_others_run_one_by_one_in_their_order(tmp_path: Path) -> None:
    _, _, order = together(tmp_path, "stack", "lint", "app", "fast", "host:engine")
    idle = ["lint", "fast", "host:engine"]
    assert [line for line in order if line.split()[1] in idle] == [
        f"{what} {part}" for part in idle for what in ("began", "ended")
    ]


def wait_for(directory: Path, begun: int, *parts: str) -> None:
    """Have these parts not end before so many have begun."""
    (directory / "waits").write_text("".join(f"{part} {begun}\n" for part in parts), encoding="utf-8")


def test_three_that_work_and_an_idle_one_run_beside_each_other(tmp_path: Path) -> None:
    wait_for(tmp_path, 4, "host:default", "lint", "app", "host:upgrade")
    code, _, order = together(tmp_path, "host:default", "lint", "app", "host:upgrade", "acme")
    assert code == 0
    begun = [line.split()[1] for line in order if line.startswith("began")]
    assert set(begun[:4]) == {"host:default", "lint", "app", "host:upgrade"}


def test_once_the_idle_ones_are_done_their_lane_takes_others(tmp_path: Path) -> None:
    wait_for(tmp_path, 5, "host:default", "app", "host:upgrade")
    code, _, order = together(tmp_path, "host:default", "lint", "app", "host:upgrade", "acme")
    assert code == 0
    assert order[-1] == "began acme"


@pytest.mark.parametrize("failing", ["stack", "lint", "host:default", "acme"])
def test_one_that_fails_fails_the_whole_and_keeps_no_other_from_running(tmp_path: Path, failing: str) -> None:
    code, said, order = together(tmp_path, *ALL, failing=failing)
    assert code != 0
    assert f"=== {failing}: FAILED after " in said
    assert len([line for line in order if line.startswith("began")]) == len(ALL)
    end = at_the_end(said)
    at = next(number for number, line in enumerate(end) if line.startswith(f"{failing}: FAILED after "))
    assert end[at + 1 : at + 3] == ["  │ E   assert 1 == 2", f"FAILED {failing}"]
    assert len(end) == len(ALL) + 2


def test_a_stack_that_never_says_so_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "silent").touch()
    assert together(tmp_path, *ALL)[0] == 0


def test_without_the_stack_nobody_waits(tmp_path: Path) -> None:
    code, said, _ = together(tmp_path, "host:default", "host:engine", failing="host:engine")
    assert code != 0
    assert "=== host:default: passed" in said


def test_one_that_was_not_run_to_its_end_fails_the_whole(tmp_path: Path) -> None:
    """Killed, nobody says whether it would have passed."""
    code, said, _ = together(tmp_path, "killed", left=["killed"])
    assert code != 0
    assert at_the_end(said) == ["killed: NOT RUN TO ITS END"]
