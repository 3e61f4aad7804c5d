"""Learn in one module run what the role host_baseline would otherwise ask a host in twenty."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_baseline_probe
short_description: What runs on a host, for the role host_baseline to compare with what is wanted
description:
  - Reads files, kernel settings, units, packages, the firewall, sshd's effective configuration and the session that Ansible
    came by. Changes nothing, so a run without a difference costs this one module.
options:
  files: {description: Files to read., type: list, elements: path, required: true}
  sysctl: {description: Names of kernel settings., type: list, elements: str, required: true}
  units: {description: systemd units., type: list, elements: str, required: true}
  packages: {description: Names of packages., type: list, elements: str, required: true}
  account: {description: Name of a user; empty for none., type: str, required: true}
"""

import grp
import os
import pwd
import re
import stat
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

UNIT_PROPERTIES = (
    "Id,ActiveState,UnitFileState,NeedDaemonReload,ConditionResult,ConditionTimestampMonotonic,StateChangeTimestampMonotonic"
)


def read(path: str) -> str | None:
    """The text of a file, or None where there is none or it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return None


def file_state(path: str) -> dict[str, Any] | None:
    """Content, mode and time of a file, or None where there is none."""
    content = read(path)
    if content is None:
        return None
    status = os.stat(path)
    return {
        "content": content,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": status.st_uid,
        "changed_at": status.st_mtime,
    }


def sysctl_value(name: str) -> str | None:
    """A kernel setting as sysctl prints it, or None where this kernel has none of that name."""
    value = read("/proc/sys/" + name.replace(".", "/"))
    return None if value is None else " ".join(value.split())


def parse_units(text: str, now: float, monotonic: float) -> dict[str, dict[str, Any]]:
    """The blocks that `systemctl show` prints, by unit; the last change of state becomes a time like a file's."""
    units: dict[str, dict[str, Any]] = {}
    for block in text.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        changed = int(fields.get("StateChangeTimestampMonotonic") or 0)
        tried = int(fields.get("ConditionTimestampMonotonic") or 0)
        units[fields.get("Id", "")] = {
            "active": fields.get("ActiveState") in ("active", "reloading"),
            "enabled": fields.get("UnitFileState") in ("enabled", "static", "alias", "indirect", "generated"),
            # Its file on the disk is another than the one that systemd has read.
            "stale": fields.get("NeedDaemonReload") == "yes",
            # The result is no also for a unit that was never tried, hence the time.
            "refused_by_condition": fields.get("ConditionResult") == "no" and tried > 0,
            "changed_at": now - monotonic + changed / 1e6 if changed else 0.0,
        }
    return units


def parse_settings(text: str) -> dict[str, str]:
    """What `sshd -T` prints; of a keyword that is there more than once, all values, joined."""
    settings: dict[str, str] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        settings[keyword] = f"{settings[keyword]} {value}" if keyword in settings else value
    return settings


def uplinks(ipv4: str, ipv6: str) -> list[str]:
    """Interfaces of the default routes, from the texts of /proc/net/route and /proc/net/ipv6_route."""
    rows = (line.split() for line in ipv4.splitlines()[1:])
    found = {row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "0" * 8}
    rows = (line.split() for line in ipv6.splitlines())
    found |= {row[9] for row in rows if len(row) > 9 and row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo"}
    return sorted(found)


def parent_of(status: str) -> int:
    """Parent's process id, from the text of /proc/PID/stat."""
    return int(status.rpartition(")")[2].split()[1])


def session() -> dict[str, Any]:
    """Who logged in, from where and on which port: sudo hides it from us, but not from a look at our ancestors."""
    found = {"user": os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name, "client": "", "port": 0}
    process = os.getpid()
    while process > 1:
        environment = read(f"/proc/{process}/environ") or ""
        connection = re.search(r"(?:^|\0)SSH_CONNECTION=(\S+) \d+ \S+ (\d+)(?:\0|$)", environment)
        # The outermost process that has it is the shell that sshd started, as the user who logged in.
        if connection:
            owner = pwd.getpwuid(os.stat(f"/proc/{process}").st_uid).pw_name
            found = {"user": owner, "client": connection.group(1), "port": int(connection.group(2))}
        process = parent_of(read(f"/proc/{process}/stat") or ") ? 0")
    return found


def key_files(account: pwd.struct_passwd, patterns: str) -> list[str]:
    """The files that sshd reads an account's keys from."""
    names = [name.replace("%h", account.pw_dir).replace("%u", account.pw_name) for name in patterns.split()]
    return [name if name.startswith("/") else os.path.join(account.pw_dir, name) for name in names if name != "none"]


def safe_from_others(path: str, owner: int) -> bool:
    """Whether sshd's StrictModes takes this file: it and all above it belong to the owner or root, and only they write."""
    while True:
        status = os.stat(path)
        if status.st_uid not in (0, owner) or status.st_mode & 0o022:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


class Host:
    """The questions that need a program."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def ask(self, *command: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a program; 127 where it is not installed."""
        program = self.module.get_bin_path(command[0])
        if program is None:
            return 127, "", f"{command[0]} is not installed"
        code, output, errors = self.module.run_command([program, *command[1:]])
        return code, output, errors

    def usable_keys(self, name: str, patterns: str) -> int:
        """How many keys sshd would take from this account's files."""
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            return 0
        count = 0
        for path in key_files(account, patterns):
            if os.path.isfile(path) and safe_from_others(path, account.pw_uid):
                count += len(self.ask("ssh-keygen", "-l", "-f", path)[1].splitlines())
        return count

    def sshd(self, user: str, client: str) -> dict[str, Any]:
        """sshd's effective configuration for this user, and whether a key would let them in."""
        code, output, errors = self.ask("sshd", "-T", "-C", f"user={user},host={client},addr={client or '127.0.0.1'}")
        settings = parse_settings(output)
        return {
            "installed": code != 127,
            "error": errors.strip() if code else "",
            "effective": settings,
            "ports": [int(port) for port in settings.get("port", "").split()],
            "usable_keys": self.usable_keys(user, settings.get("authorizedkeysfile", ".ssh/authorized_keys")),
        }

    def units(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """State of units; the answer has one entry for each name that was asked."""
        if not names:
            return {}
        output = self.ask("systemctl", "show", f"--property={UNIT_PROPERTIES}", "--", *names)[1]
        return parse_units(output, time.time(), time.clock_gettime(time.CLOCK_MONOTONIC))

    def packages(self, names: list[str]) -> dict[str, bool]:
        """Which packages are installed."""
        if not names:
            return {}
        output = self.ask("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names)[1]
        installed = {line.split()[0] for line in output.splitlines() if line.endswith(" installed")}
        return {name: name in installed for name in names}

    def account(self, name: str) -> dict[str, Any]:
        """What an account may do already."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return {"exists": False}
        shadow = re.search(f"^{re.escape(name)}:([^:]*)", read("/etc/shadow") or "", re.MULTILINE)
        keys = read(os.path.join(entry.pw_dir, ".ssh/authorized_keys")) or ""
        return {
            "exists": True,
            "home": entry.pw_dir,
            "shell": entry.pw_shell,
            "password_off": shadow is not None and shadow.group(1) == "*",
            "groups": sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem),
            "authorized_keys": [line.strip() for line in keys.splitlines() if line.strip() and not line.startswith("#")],
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "path", "required": True},
            "sysctl": {"type": "list", "elements": "str", "required": True},
            "units": {"type": "list", "elements": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "account": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    who = session()
    table = host.ask("nft", "list", "table", "inet", "seawall")[1]
    revision = re.search(r'^\s+comment "([0-9a-f]{64})"', table, re.MULTILINE)
    core = host.ask("systemctl", "show", "--property=DefaultLimitCORE")[1].strip()
    result: dict[str, Any] = {
        "systemd": os.path.isdir("/run/systemd/system"),
        "init": (read("/proc/1/comm") or "unknown").strip(),
        "session": who,
        "files": {path: file_state(path) for path in module.params["files"]},
        "missing_directories": sorted(
            {parent for parent in map(os.path.dirname, module.params["files"]) if not os.path.isdir(parent)}
        ),
        "sysctl": {name: sysctl_value(name) for name in module.params["sysctl"]},
        "units": host.units(module.params["units"]),
        "packages": host.packages(module.params["packages"]),
        "account": host.account(module.params["account"]),
        "sshd": host.sshd(who["user"], who["client"]),
        "firewall": {"runs": bool(table), "revision": revision.group(1) if revision else ""},
        "core_limit": core.partition("=")[2],
        "uplinks": uplinks(read("/proc/net/route") or "", read("/proc/net/ipv6_route") or ""),
        "sudo_rs": "sudo-rs" in host.ask("sudo", "--version")[1],
    }
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
