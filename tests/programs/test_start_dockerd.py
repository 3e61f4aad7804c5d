"""The script that starts dockerd where no init system does: stale pid files, a slow engine, one that never answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles/docker_engine/files/start-dockerd"
# Stand-ins that leave a trace: an engine answers once it was started, unless it is told to stay silent, or to be gone at once.
STAND_INS = {
    "docker": '#!/bin/sh\ntest -f "$TRACE/started"\n',
    "start-stop-daemon": """#!/bin/sh
echo "$@" >"$TRACE/call"
test -f "$TRACE/silent" || touch "$TRACE/started"
test ! -f "$TRACE/dies" || echo 2147483646 >"$TRACE/run/seawall.pid"
""",
}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "run/docker/containerd").mkdir(parents=True)
    (tmp_path / "log").write_text("the last line of the log\n")
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    # A real program of that name: the script asks the kernel which program a pid belongs to.
    shutil.copy(shutil.which("sleep") or "", tmp_path / "bin/dockerd")
    return tmp_path


@contextmanager
def running(program: Path) -> Iterator[int]:
    process = subprocess.Popen([program, "60"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def start(trace: Path, timeout: int = 5) -> subprocess.CompletedProcess[str]:
    arguments = [str(trace / name) for name in ("run/seawall.pid", "log", "daemon.json", "run")] + [str(timeout)]
    environment = {"PATH": f"{trace}/bin:{os.environ['PATH']}", "TRACE": str(trace)}
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


def pid_files(trace: Path) -> list[Path]:
    return [trace / "run/seawall.pid", trace / "run/docker.pid", trace / "run/docker/containerd/containerd.pid"]


@pytest.mark.parametrize("pid", ["2147483646", str(os.getpid()), ""])
def test_pid_files_of_nobody_or_of_another_program_are_dropped(trace: Path, pid: str) -> None:
    for path in pid_files(trace):
        path.write_text(pid)
    assert start(trace).returncode == 0
    assert [path for path in pid_files(trace) if path.exists()] == []
    assert "--config-file" not in (trace / "call").read_text()


@pytest.mark.parametrize(
    ("file", "replaced"),
    [("docker.pid", False), ("seawall.pid", False), ("seawall.pid", True)],
    ids=["another's", "ours", "ours, after an upgrade"],
)
def test_engine_that_is_starting_is_waited_for_and_not_started_twice(trace: Path, file: str, replaced: bool) -> None:
    with running(trace / "bin/dockerd") as pid:
        if replaced:
            (trace / "bin/dockerd").unlink()
        (trace / "run" / file).write_text(str(pid))
        (trace / "started").touch()
        assert start(trace).returncode == 0
    assert (trace / "run" / file).exists()
    assert not (trace / "call").exists()


def test_daemon_json_is_named_when_there_is_one(trace: Path) -> None:
    (trace / "daemon.json").write_text("{}")
    assert start(trace).returncode == 0
    assert f"--config-file {trace}/daemon.json" in (trace / "call").read_text()


def test_engine_that_never_answers_is_reported_with_its_log(trace: Path) -> None:
    (trace / "silent").touch()
    result = start(trace, timeout=1)
    assert result.returncode == 2
    assert "did not answer within 1 seconds" in result.stderr
    assert "the last line of the log" in result.stderr


def test_engine_that_stops_again_is_told_from_one_that_is_slow(trace: Path) -> None:
    for what in ("silent", "dies"):
        (trace / what).touch()
    result = start(trace, timeout=20)
    assert result.returncode == 1
    assert "stopped again" in result.stderr


def test_the_engine_is_started_in_the_background_with_its_log_and_pid_file(trace: Path) -> None:
    assert start(trace).returncode == 0
    assert (trace / "call").read_text().split() == [
        *("--start", "--quiet", "--background", "--make-pidfile", "--pidfile", f"{trace}/run/seawall.pid"),
        *("--output", f"{trace}/log", "--exec", f"{trace}/bin/dockerd", "--"),
    ]


def test_what_is_not_dockerd_yet_has_a_moment_to_become_it(trace: Path) -> None:
    """start-stop-daemon writes the number down before it is the engine."""
    slow = f'#!/bin/sh\necho 2147483646 >{trace}/run/seawall.pid\n(sleep 0.5; touch "$TRACE/started") >/dev/null 2>&1 &\n'
    (trace / "bin/start-stop-daemon").write_text(slow)
    assert start(trace).returncode == 0
