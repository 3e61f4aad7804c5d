"""Install a directory of configuration files in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_config_tree
short_description: Install a whole directory of configuration files, validated before anything is replaced
description:
  - One run where a loop over template would take one per file.
  - The candidate tree is staged in a temporary directory and checked by the program that will read it; only then is each
    changed file replaced, by an atomic rename, so that a reader never sees half a file.
  - The target directory itself is never replaced, because containers hold it by a bind mount.
  - Units of systemd count as changed also while systemd has not read what is on the disk, as after a run that was killed
    between writing them and C(daemon-reload).
options:
  path:
    description: The directory.
    type: path
    required: true
  files:
    description: The files, rendered. C(path) is relative to the directory.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Relative path., type: str, required: true}
      content: {description: The whole text., type: str, required: true}
      mode: {description: Octal mode., type: str, default: "0644"}
  owner: {description: Numeric uid of files and directories., type: int, default: 0}
  group: {description: Numeric gid of files and directories., type: int, default: 0}
  directory_mode: {description: Octal mode of the directory and its subdirectories., type: str, default: "0755"}
  prune: {description: Remove files in the directory that are not in the list., type: bool, default: true}
  validate:
    description:
      - Command that must succeed first; C(%s) is the directory where the candidate is staged.
      - One that succeeds, but complains of a staged file by its path, has refused it, too; C(systemd-analyze verify) takes a
        misspelt directive for a mere warning.
    type: str
"""

import os
import shlex
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def read_tree(root: str) -> dict[str, tuple[str, int, int, int]]:
    """Every regular file below root: relative path -> (content, mode, uid, gid)."""
    found: dict[str, tuple[str, int, int, int]] = {}
    for directory, _, names in os.walk(root):
        for name in names:
            absolute = os.path.join(directory, name)
            if os.path.islink(absolute) or not os.path.isfile(absolute):
                continue
            status = os.stat(absolute)
            with open(absolute, encoding="utf-8", errors="surrogateescape") as stream:
                content = stream.read()
            found[os.path.relpath(absolute, root)] = (content, status.st_mode & 0o7777, status.st_uid, status.st_gid)
    return found


def write_file(path: str, content: str, mode: int, owner: int, group: int) -> None:
    """Write path whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".seawall-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fchown(stream.fileno(), owner, group)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def make_directories(root: str, relative_files: list[str], mode: int, owner: int, group: int) -> None:
    """Make root and every directory that a file needs, each with the wanted mode and owner."""
    wanted = {root}
    for relative in relative_files:
        parent = os.path.dirname(relative)
        while parent:
            wanted.add(os.path.join(root, parent))
            parent = os.path.dirname(parent)
    for directory in sorted(wanted):
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, mode)
        os.chown(directory, owner, group)


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def complaints(output: str, staging: str) -> list[str]:
    """Lines of a validator that begin with the path of a staged file and a colon, as warnings about a line of it do."""
    return [line for line in output.splitlines() if line.startswith(f"{staging}/") and ":" in line]


def not_read_by_systemd(module: AnsibleModule, files: list[str]) -> list[str]:
    """The units among the files that systemd holds in an older state than the disk does."""
    units = [name for name in files if name.endswith((".service", ".timer"))]
    systemctl = module.get_bin_path("systemctl")
    if not units or systemctl is None:
        return []
    code, output, _ = module.run_command([systemctl, "show", "--property=Id,NeedDaemonReload", "--", *units])
    # Where systemd does not run there is nothing to reload.
    if code != 0:
        return []
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in output.split("\n\n")]
    return sorted(block["Id"] for block in blocks if block.get("NeedDaemonReload") == "yes")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                },
            },
            "owner": {"type": "int", "default": 0},
            "group": {"type": "int", "default": 0},
            "directory_mode": {"type": "str", "default": "0755"},
            "prune": {"type": "bool", "default": True},
            "validate": {"type": "str"},
        },
        supports_check_mode=True,
    )
    root: str = module.params["path"]
    owner: int = module.params["owner"]
    group: int = module.params["group"]
    directory_mode = int(module.params["directory_mode"], 8)
    wanted: dict[str, tuple[str, int]] = {}
    for item in module.params["files"]:
        relative = os.path.normpath(item["path"])
        if relative.startswith(("/", "..")):
            module.fail_json(msg=f"{item['path']} leaves the directory {root}: give a path relative to it")
        wanted[relative] = (item["content"], int(item["mode"], 8))

    present = read_tree(root)
    changed_files = sorted(path for path, (content, mode) in wanted.items() if present.get(path) != (content, mode, owner, group))
    surplus = sorted(set(present) - set(wanted)) if module.params["prune"] else []
    result: dict[str, Any] = {
        "changed": bool(changed_files or surplus),
        "changed_files": changed_files + surplus,
    }
    result["diff"] = [
        {
            "before_header": os.path.join(root, path),
            "after_header": os.path.join(root, path),
            "before": present[path][0] if path in present else "",
            "after": wanted[path][0] if path in wanted else "",
        }
        for path in changed_files + surplus
    ]
    if not result["changed"]:
        result["changed_files"] = not_read_by_systemd(module, sorted(wanted))
        module.exit_json(**result | {"changed": bool(result["changed_files"])})

    if module.params["validate"]:
        staging = tempfile.mkdtemp(prefix="seawall-candidate-")
        try:
            make_directories(staging, list(wanted), directory_mode, owner, group)
            for path, (content, mode) in wanted.items():
                write_file(os.path.join(staging, path), content, mode, owner, group)
            command = [part.replace("%s", staging) for part in shlex.split(module.params["validate"])]
            code, output, errors = module.run_command(command)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        if code != 0 or complaints(errors + output, staging):
            module.fail_json(
                msg=f"The new configuration for {root} was refused by its own program; nothing was replaced. "
                f"Changed files: {', '.join(result['changed_files'])}. {errors.strip() or output.strip()}",
                rc=code,
            )
    if module.check_mode:
        module.exit_json(**result)

    make_directories(root, list(wanted), directory_mode, owner, group)
    for path in changed_files:
        content, mode = wanted[path]
        write_file(os.path.join(root, path), content, mode, owner, group)
    for path in surplus:
        os.unlink(os.path.join(root, path))
    sync_directory(root)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
