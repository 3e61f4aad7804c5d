"""A machine with Python and nothing else is enough to deploy from: ./seawall brings what it needs itself."""

from __future__ import annotations

import subprocess

import pytest
from deployed import REPOSITORY, Host

CHECKOUT = "/root/checkout"
# What a verb needs before its playbook runs.
FILES = ["seawall", "ansible.cfg", "playbooks"]


@pytest.mark.requirement("BEY-20")
def test_python3_venv_is_installed_where_it_is_missing_and_once(deployed: Host) -> None:
    assert deployed.root("python3 -c 'import ensurepip' 2>/dev/null && echo there") == ""
    deployed.console(f"mkdir {CHECKOUT} && : >{CHECKOUT}/requirements.txt")
    files = subprocess.run(["tar", "--create", "--directory", str(REPOSITORY), *FILES], capture_output=True, check=True).stdout
    unpack = ["docker", "exec", "--interactive", deployed.instance, "tar", "--extract", "--directory", CHECKOUT]
    subprocess.run(unpack, input=files, check=True)
    # An empty lock file needs no package index, so nothing is there to run the playbook with.
    first, second = (deployed.console(f"{CHECKOUT}/seawall check 2>&1 || true") for _ in range(2))
    assert "seawall: installing python3-venv with apt" in first
    assert deployed.must("dpkg-query --show --showformat '${db:Status-Status}' python3-venv") == "installed"
    assert deployed.console(f"{CHECKOUT}/.venv/bin/python -c 'print(6 * 7)'") == "42"
    assert "installing" not in second
    assert "could not" not in first
