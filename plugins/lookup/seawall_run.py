"""Which run this is: who started it, on which machine, and which other runs live there."""

from __future__ import annotations

DOCUMENTATION = r"""
name: seawall_run
short_description: The run that asks, and every run that lives on the same machine, for the lock of deploys
description:
  - A process is named by its number and the time of its start, so that a number that is given again is another process.
"""

import getpass
import os
import socket
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError

if TYPE_CHECKING:

    class LookupBase:
        """Ansible's has no types."""

else:
    from ansible.plugins.lookup import LookupBase


def read(path: str) -> str:
    """A file of /proc, or nothing once its process is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def fields_of(process: int) -> list[str]:
    """What /proc/PID/stat says after the name, which may hold anything."""
    return read(f"/proc/{process}/stat").rpartition(")")[2].split()


def name_of(process: int) -> str:
    """Number and start of a process, the latter in ticks since the boot; empty once it is gone."""
    fields = fields_of(process)
    return f"{process}:{fields[19]}" if fields else ""


def is_run(process: int) -> bool:
    """Whether this is ansible-playbook, behind an interpreter and its options or not; one that has ended has no words left."""
    words = read(f"/proc/{process}/cmdline").split("\0")[:6]
    # The server of a terminal bears the command that it was begun with, and outlives that.
    if os.path.basename(words[0]).lower() in {"tmux", "screen"}:
        return False
    is_module = any(words[at : at + 3] == ["-m", "ansible", "playbook"] for at in range(4))
    return is_module or "ansible-playbook" in map(os.path.basename, words)


def this_run() -> str:
    """The outermost ansible-playbook above us: its workers are copies of it, and come and go."""
    found, process = "", os.getpid()
    # In a container it may be process 1 itself, whose parent is 0.
    while process > 0:
        found = name_of(process) if is_run(process) else found
        process = int((fields_of(process) or ["", "0"])[1])
    return found


def machine() -> str:
    """This machine until its next boot; a container that has process numbers of its own is another one."""
    return f"{socket.gethostname()} {read('/proc/sys/kernel/random/boot_id').strip()} {os.stat('/proc/self/ns/pid').st_ino}"


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, _: list[object], **__: object) -> list[dict[str, Any]]:
        process = this_run()
        if not process:
            raise AnsibleError(
                "No process above this one is ansible-playbook, so no lock could last as long as this run. Use ./seawall."
            )
        processes = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        user = os.environ.get("SUDO_USER") or getpass.getuser()
        return [
            {
                "who": f"{user}@{socket.gethostname()}",
                "machine": machine(),
                "process": process,
                # Where /proc is mounted with hidepid, what others run cannot be seen.
                "sees_all": bool(fields_of(1)),
                "living": [name_of(process) for process in processes if is_run(process)],
            }
        ]
