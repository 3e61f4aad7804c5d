"""Run one of our Ansible modules in a process of its own, the way Ansible does, and return its answer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODULES = Path(__file__).resolve().parents[2] / "plugins/modules"


def module_run(name: str, *, check_mode: bool = False, arguments: Mapping[str, object]) -> dict[str, Any]:
    """Arguments and answer are what a task passes and registers; the answer's rc is the module's exit code."""
    options = {"_ansible_check_mode": check_mode, "_ansible_diff": True, "_ansible_remote_tmp": tempfile.gettempdir()}
    # Ansible's own runner installs a serialisation profile before it calls main().
    start = (
        "import sys; from ansible.module_utils import basic; "
        "basic._ANSIBLE_PROFILE = 'legacy'; basic._ANSIBLE_ARGS = sys.stdin.buffer.read(); "
        f"sys.path.insert(0, {str(MODULES)!r}); import {name}; {name}.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", start],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **options}}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer | {"rc": done.returncode}
