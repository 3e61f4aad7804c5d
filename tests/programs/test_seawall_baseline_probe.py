"""What host_baseline learns about a host is read correctly."""

from __future__ import annotations

import os
from pathlib import Path

from module_run import module_run
from seawall_baseline_probe import file_state, parent_of, parse_settings, parse_units, safe_from_others, sysctl_value, uplinks

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
