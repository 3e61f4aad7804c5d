"""Make the directories that containers mount, in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_directories
short_description: A root directory and directories below it, each with numeric owner and mode
options:
  root: {description: The directory above them; made with mode 0755 and owned by root., type: path, required: true}
  directories:
    description: The directories, parents before children.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Relative to root., type: str, required: true}
      owner: {description: Numeric uid., type: int, default: 0}
      group: {description: Numeric gid., type: int, default: 0}
      mode: {description: Octal mode., type: str, required: true}
"""

import os
import stat

from ansible.module_utils.basic import AnsibleModule


def differs(path: str, owner: int, group: int, mode: int) -> bool:
    """Whether path is not yet a directory with this owner, group and mode."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return True
    wanted = (True, owner, group, mode)
    return (stat.S_ISDIR(status.st_mode), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != wanted


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "directories": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "owner": {"type": "int", "default": 0},
                    "group": {"type": "int", "default": 0},
                    "mode": {"type": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    root: str = module.params["root"]
    wanted = [(root, 0, 0, 0o755)]
    wanted += [(os.path.join(root, d["path"]), d["owner"], d["group"], int(d["mode"], 8)) for d in module.params["directories"]]
    changed = [entry for entry in wanted if differs(*entry)]
    if not module.check_mode:
        for path, owner, group, mode in changed:
            os.makedirs(path, exist_ok=True)
            os.chown(path, owner, group)
            os.chmod(path, mode)
    module.exit_json(changed=bool(changed), directories=[entry[0] for entry in changed])


if __name__ == "__main__":
    main()
