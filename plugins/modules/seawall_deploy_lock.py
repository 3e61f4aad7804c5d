"""One deploy at a time: a lock on the host that names its holder and outlives no run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_deploy_lock
short_description: Take the lock of an installation, take it anew, or give it back
description:
  - The lock is a file that says who holds it, since when, and by which signs others can tell that its holder lives.
  - A run on this host or on the same controller is known by its process. A run from elsewhere is known by the SSH session that it
    came by, which ends soon after its controller has; a lock that was taken a moment ago counts until then, too.
  - No run lives longer than the boot of the host that it was seen in.
  - So a lock that a killed run has left is taken over by the next run, and nobody ever has to remove one by hand.
  - The run that holds it takes it anew by C(kept), which it must after it has come in by another connection or has waited for
    long. It is refused where somebody else has had it meanwhile, since what this run knows of the host may be so no more.
  - In check mode nothing is taken and nothing refused.
  - C(unfinished) tells of the run whose lock was taken over, as it never said that it was over; else it is an empty string.
options:
  path: {description: "The file, in a directory that only root can write.", type: path, required: true}
  state: {description: What is wanted., type: str, choices: [held, kept, free], default: held}
  verb: {description: "What the run does, for whoever is refused.", type: str, required: true}
  run: {description: What the lookup C(seawall_run) says., type: dict, required: true}
"""

import fcntl
import json
import os
import re
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Longer than ControlPersist, so that a run which is only slow to come back is not taken for a dead one.
GRACE_SECONDS = 120


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
    """Number and start of a process; empty once it is gone or has ended."""
    fields = fields_of(process)
    return f"{process}:{fields[19]}" if fields and fields[0] != "Z" else ""


def boot() -> str:
    """This boot of the host; a container's is that of its process 1."""
    return f"{read('/proc/sys/kernel/random/boot_id').strip()} {name_of(1)}"


def machine() -> str:
    """This host in the words of the lookup, for a run that is on it."""
    return f"{socket.gethostname()} {read('/proc/sys/kernel/random/boot_id').strip()} {os.stat('/proc/self/ns/pid').st_ino}"


def session() -> str:
    """sshd's process of the connection that we came by: the parent of the outermost process that knows of it. In a shell that
    outlives its connection, as under tmux, that is another one, which tells nothing."""
    found, process = "", os.getpid()
    while process > 1:
        parent = int((fields_of(process) or ["", "0"])[1])
        if re.search(r"(?:^|\0)SSH_CONNECTION=", read(f"/proc/{process}/environ")):
            found = name_of(parent) if read(f"/proc/{parent}/comm").startswith("sshd") else ""
        process = parent
    return found


def is_same(record: dict[str, Any], run: dict[str, Any]) -> bool:
    return bool(run["process"]) and all(record[key] == run[key] for key in ("who", "machine", "process"))


def is_there(name: str) -> bool:
    """Whether a process of that name, if any, is at work on this host."""
    return bool(name) and name_of(int(name.partition(":")[0])) == name


def lives(record: dict[str, Any], run: dict[str, Any], now: float) -> bool:
    """Whether the holder of a lock is still at work, as far as run can know."""
    if record["boot"] != boot():
        return False
    if record["machine"] == machine():
        return is_there(record["process"])
    if record["machine"] == run["machine"]:
        if record["process"] in run["living"]:
            return True
        if run["sees_all"] or record["who"] == run["who"]:
            return False
    return now - record["renewed"] < GRACE_SECONDS or is_there(record["session"])


def opened(path: str) -> int:
    """A descriptor of the lock's file, which nobody else has now; a file that was removed meanwhile is no lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)


def record_in(descriptor: int) -> dict[str, Any]:
    """Who holds the lock; nobody where its file is empty or was not written to its end."""
    try:
        record: dict[str, Any] = json.loads(os.read(descriptor, 65536))
    except ValueError:
        return {}
    return record


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["held", "kept", "free"], "default": "held"},
            "verb": {"type": "str", "required": True},
            "run": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    path: str = module.params["path"]
    run: dict[str, Any] = module.params["run"]
    # Of this boot, whatever happens to the clock meanwhile.
    now = time.monotonic()
    try:
        descriptor = opened(path)
    except OSError as error:
        module.fail_json(
            msg=f"No lock can be kept in {path}: {error.strerror}. Remove on the host what is there, or mend its directory."
        )
    record = record_in(descriptor)
    is_ours = bool(record) and is_same(record, run)
    if module.params["state"] == "free":
        # Not one that was taken over meanwhile.
        if is_ours or not record:
            os.unlink(path)
        module.exit_json(changed=False)
    if module.params["state"] == "kept" and not is_ours:
        # One that was made just now, by looking for it, is nobody's.
        if not record:
            os.unlink(path)
        other = record["who"] if record else "another run"
        module.fail_json(
            msg=f"This run was away for so long that its lock ended, and {other} may have changed the host since. It stops here. "
            f"Run ./seawall {module.params['verb']} again: it looks at the host anew."
        )
    begun = ""
    if record and not is_ours:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record["since"]))
        begun = f"{record['who']} began a {record['verb']} on {since}"
    if begun and lives(record, run, now):
        module.fail_json(
            msg=f"{begun}, and has not said that it is over. Nothing was changed. "
            f"Run the same command again when it is. If it failed or was killed, its lock ends by itself, at the latest "
            f"{GRACE_SECONDS} seconds after its connection. If you know that it is over, you may remove {path} on the host."
        )
    taken = {key: run[key] for key in ("who", "machine", "process")} | {
        "verb": module.params["verb"],
        "since": record["since"] if is_ours else time.time(),
        "renewed": now,
        "session": session(),
        "boot": boot(),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(taken).encode(), 0)
    os.fsync(descriptor)
    # What a run changes on the host between two deploys is nobody's concern: the lock is gone when it is over.
    unfinished = f"{begun}, which did not come to its end: it failed or was killed." if begun else ""
    module.exit_json(changed=False, since=taken["since"], from_elsewhere=run["machine"] != machine(), unfinished=unfinished)


if __name__ == "__main__":
    main()
