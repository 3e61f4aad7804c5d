"""What host_baseline learns about a host is read correctly."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import seawall_baseline_probe
from module_run import module_run
from seawall_baseline_probe import (
    file_state,
    key_files,
    parent_of,
    parse_settings,
    parse_units,
    safe_from_others,
    sysctl_value,
    uplinks,
)

SHOWN = """Id=ssh.service
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=yes
ConditionResult=yes
ConditionTimestampMonotonic=4000000
StateChangeTimestampMonotonic=5000000

Id=systemd-timesyncd.service
ActiveState=inactive
UnitFileState=enabled
ConditionResult=no
ConditionTimestampMonotonic=4000000
StateChangeTimestampMonotonic=0

Id=never-tried.service
ActiveState=inactive
UnitFileState=
ConditionResult=no
ConditionTimestampMonotonic=0
StateChangeTimestampMonotonic=0
"""


def test_units() -> None:
    units = parse_units(SHOWN, now=1000.0, monotonic=10.0)
    assert units["ssh.service"] == {
        "active": True,
        "enabled": True,
        "stale": True,
        "refused_by_condition": False,
        "changed_at": 995.0,
    }
    assert units["systemd-timesyncd.service"]["refused_by_condition"]
    assert not units["systemd-timesyncd.service"]["stale"]
    assert not units["never-tried.service"]["refused_by_condition"]


def test_settings_of_sshd() -> None:
    assert parse_settings("port 22\nport 2222\npermitrootlogin no\n") == {"port": "22 2222", "permitrootlogin": "no"}


def test_interfaces_of_the_default_routes() -> None:
    ipv4 = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "docker0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    nothing = "0" * 32
    ipv6 = (
        f"{nothing} 00 {nothing} 00 {nothing} ffffffff 00000001 00000000 00200200       lo\n"
        f"{nothing} 00 {nothing} 00 {'f' * 32} 00000400 00000001 00000000 00000003     eth1\n"
    )
    assert uplinks(ipv4, ipv6) == ["eth0", "eth1"]


def test_the_parent_of_a_process_with_an_odd_name() -> None:
    assert parent_of("12 (a) b (c)) S 7 12 12 0") == 7


def test_kernel_settings() -> None:
    assert sysctl_value("kernel.ostype") == "Linux"
    assert sysctl_value("net.ipv4.there_is_none") is None


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a\n", encoding="utf-8")
    path.chmod(0o640)
    state = file_state(str(path))
    assert state is not None
    assert (state["content"], state["mode"], state["owner"]) == ("a\n", "0640", os.getuid())
    assert file_state(str(tmp_path / "none")) is None


def test_keys_that_others_may_write_do_not_count(tmp_path: Path) -> None:
    keys = tmp_path / "authorized_keys"
    keys.write_text("", encoding="utf-8")
    keys.chmod(0o664)
    assert not safe_from_others(str(keys), os.getuid())


def test_the_module_answers_on_any_machine() -> None:
    arguments: dict[str, object] = {"files": ["/nowhere/x.conf"], "sysctl": [], "units": [], "packages": [], "account": ""}
    answer = module_run("seawall_baseline_probe", arguments=arguments, check_mode=True)
    assert answer["rc"] == 0
    assert answer["missing_directories"] == ["/nowhere"]
    assert answer["account"] == {"exists": False}


@pytest.mark.parametrize(
    ("path", "mode", "owner", "safe"),
    [
        ("/home/anna/.ssh/keys", 0o600, 1000, True),
        ("/home/anna/.ssh/keys", 0o600, 1001, False),
        ("/home/anna", 0o775, 1000, False),
        ("/home", 0o777, 0, False),
        ("/", 0o755, 1001, False),
    ],
)
def test_keys_count_where_they_and_all_above_them_are_safe(
    monkeypatch: pytest.MonkeyPatch, path: str, mode: int, owner: int, safe: bool
) -> None:
    def stat(asked: str) -> SimpleNamespace:
        return SimpleNamespace(st_mode=mode, st_uid=owner) if asked == path else SimpleNamespace(st_mode=0o755, st_uid=0)

    monkeypatch.setattr(seawall_baseline_probe, "os", SimpleNamespace(stat=stat, path=os.path))
    assert safe_from_others("/home/anna/.ssh/keys", 1000) == safe


def test_units_that_load_anew_are_active() -> None:
    assert parse_units("Id=x.service\nActiveState=reloading\n", 1.0, 1.0)["x.service"]["active"]


def test_the_files_that_keys_are_read_from() -> None:
    anna = pwd.struct_passwd(("anna", "x", 1000, 1000, "", "/home/anna", "/bin/sh"))
    patterns = ".ssh/authorized_keys %h/.more /etc/keys/%u none"
    expected = ["/home/anna/.ssh/authorized_keys", "/home/anna/.more", "/etc/keys/anna"]
    assert key_files(anna, patterns) == expected


def test_the_session_is_the_outermost_that_knows_of_a_connection() -> None:
    here = {name: value for name, value in os.environ.items() if name not in {"SSH_CONNECTION", "SUDO_USER"}}
    code = "import json, seawall_baseline_probe as probe; print(json.dumps(probe.session()))"
    modules = str(Path(__file__).parents[2] / "plugins/modules")

    def session(*connections: str) -> dict[str, object]:
        inner = [sys.executable, "-c", code]
        for connection in reversed(connections):
            # A shell that waits for what it runs, so that its environment can be seen above.
            inner = ["env", f"SSH_CONNECTION={connection}", "sh", "-c", '"$@"; exit $?', "sh", *inner]
        environment = here | {"PYTHONPATH": modules}
        found: dict[str, object] = json.loads(subprocess.check_output(inner, env=environment, text=True))
        return found

    me = pwd.getpwuid(os.getuid()).pw_name
    assert session() == {"user": me, "client": "", "port": 0}
    first, second = "203.0.113.7 50000 203.0.113.10 2222", "198.51.100.1 50001 198.51.100.2 22"
    assert session(first, second) == {"user": me, "client": "203.0.113.7", "port": 2222}
