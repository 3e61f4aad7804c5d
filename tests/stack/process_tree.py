"""What a process has started, and what that has started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def descendants(process: int) -> list[int]:
    """A process and everything below it; Ansible's workers are in sessions of their own."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(path.parent.name))
    found, waiting = [], [process]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def end_with_descendants(process: int) -> None:
    """Kill a process and everything below it, as the machine that runs it might die. Stopped first, none starts a further one."""
    family: list[int] = []
    while (found := descendants(process)) != family:
        family = found
        for victim in family:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP)
    for victim in family:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
