"""What preflight learns about a host is read correctly."""

from __future__ import annotations

import base64
import json
import os
import socket
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from module_run import module_run
from seawall_host_probe import (
    can_bind,
    engine_data,
    free_gibibytes,
    memory_mebibytes,
    other_roots,
    parse_os_release,
    reachable_ports,
    read,
)


def test_os_release() -> None:
    text = '# a comment\nID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
    assert parse_os_release(text) == {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}


def test_memory() -> None:
    assert memory_mebibytes("MemTotal:        2048000 kB\nMemFree:  1 kB\n") == 2000


def test_disk_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_gibibytes(str(tmp_path / "a/b/c")) == free_gibibytes(str(tmp_path))


@pytest.mark.parametrize(
    ("there", "wanted", "found"),
    [
        ("", "", "/var/lib/docker"),
        ("", "/data/docker", "/data/docker"),
        ('{"data-root": "/srv/docker"}', "/data/docker", "/srv/docker"),
        ('{"icc": false}', "", "/var/lib/docker"),
        ("[]", "", "/var/lib/docker"),
        ("no json", "/data/docker", "/data/docker"),
    ],
)
def test_the_disk_that_the_engine_fills(there: str, wanted: str, found: str) -> None:
    assert engine_data(there, wanted) == found


@pytest.mark.parametrize("address", [str(IPv4Address(0)), "127.0.0.1", "127.0.0.2"])
def test_an_address_of_the_host(address: str) -> None:
    assert can_bind(address)


# Of the networks that are for documentation, no address at all, and the broadcast address that every host has.
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "nowhere", "127.255.255.255"])
def test_an_address_of_another_host(address: str) -> None:
    assert not can_bind(address)


def test_a_listening_port_is_named_with_its_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = {"paths": ["/"], "address": "127.0.0.1", "ports": [port], "project": "seawall-none", "root": "/opt/none"}
        answer = module_run("seawall_host_probe", arguments=arguments)
        assert f"(pid {os.getpid()})" in answer["taken_ports"][str(port)]
    answer = module_run("seawall_host_probe", arguments=arguments)
    assert answer["taken_ports"] == {}


def test_a_root_names_the_project_that_is_installed_there(tmp_path: Path) -> None:
    arguments = {"paths": [], "address": "127.0.0.1", "ports": [], "project": "seawall-none", "root": str(tmp_path)}
    assert module_run("seawall_host_probe", arguments=arguments)["root_holds"] == ""
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose/.env").write_text("# first\nSEAWALL_PROJECT_X=no\nSEAWALL_PROJECT=shop\nA=b\n", encoding="utf-8")
    assert module_run("seawall_host_probe", arguments=arguments)["root_holds"] == "shop"


def test_the_installed_certificate_is_read_and_its_key_is_not(tmp_path: Path) -> None:
    arguments = {"paths": [], "address": "127.0.0.1", "ports": [], "project": "seawall-none", "root": str(tmp_path)}
    assert module_run("seawall_host_probe", arguments=arguments)["certificate"] == {
        "content": "",
        "has_key": False,
        "has_ca": False,
    }
    pair = tmp_path / "tls/pairs/one"
    pair.mkdir(parents=True)
    (tmp_path / "tls/current").symlink_to("pairs/one")
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / "tls" / name).symlink_to(f"current/{name}")
    # Links that lead nowhere, as after a pair was removed by hand.
    assert module_run("seawall_host_probe", arguments=arguments)["certificate"] == {
        "content": "",
        "has_key": False,
        "has_ca": False,
    }
    # Compared with what an operator has brought, which may have been written elsewhere.
    written = b"of \xff bytes\r\n"
    (pair / "fullchain.pem").write_bytes(written)
    (tmp_path / "tls/ca.pem").touch()
    (pair / "privkey.pem").write_text("not to be told", encoding="ascii")
    answer = module_run("seawall_host_probe", arguments=arguments)
    assert answer["certificate"] == {"content": base64.b64encode(written).decode(), "has_key": True, "has_ca": True}
    assert "not to be told" not in str(answer)


def test_containers_tell_the_roots_that_they_were_made_from(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    lines = f"{tmp_path}/real/compose\n{tmp_path}/link/compose\n\n"
    assert other_roots(lines, f"{tmp_path}/link") == []
    assert other_roots(lines + "/srv/elsewhere/compose\n", f"{tmp_path}/real") == ["/srv/elsewhere"]


def test_what_others_publish_is_told_by_the_ports_that_are_reached_from_outside() -> None:
    lines = (
        "shop\tedge\tshop-edge-1\t0.0.0.0:8443->8443/tcp, [::]:8443->8443/tcp, 0.0.0.0:8443->8443/udp\n"
        "mine\tedge\tmine-edge-1\t0.0.0.0:443->8443/tcp\n"
        "test\tedge\ttest-edge-1\t127.0.0.1:9443->8443/tcp, 8080/tcp\n"
        "blog\tweb\tblog-web-1\t0.0.0.0:8080->80/tcp, 0.0.0.0:9000-9001->9000-9001/tcp, 0.0.0.0:53->53/udp\n"
        "\t\tolder\t192.0.2.1:5432->5432/tcp, ::1:6->6/tcp, [::1]:7->7/tcp\n"
        "\t\tsilent\t\n"
    )
    web = dict.fromkeys(["8080", "9000", "9001", "53/udp"], "blog-web-1")
    assert reachable_ports(lines, "mine") == ({"8443": "shop"}, web | {"5432": "older"})


def test_a_port_of_udp_is_another_one() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        arguments = {
            "paths": ["/"],
            "address": "127.0.0.1",
            "ports": [port],
            "udp_ports": [port],
            "project": "seawall-none",
            "root": "/none",
        }
        answer = module_run("seawall_host_probe", arguments=arguments)
        assert list(answer["taken_ports"]) == [f"{port}/udp"]
        assert f"(pid {os.getpid()})" in answer["taken_ports"][f"{port}/udp"]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that says of itself, its images and who publishes a port what stands in a file of that name, and nothing else."""
    (tmp_path / "docker").write_text(
        f"#!/bin/sh\ncase $* in *publish=*) cat {tmp_path}/publishes ;; info*) cat {tmp_path}/info ;;"
        f" 'image ls '*) cat {tmp_path}/images ;; esac\n",
        encoding="utf-8",
    )
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "publishes").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def probe(*ports: int, **more: object) -> dict[str, Any]:
    arguments = {"paths": ["/"], "address": "127.0.0.1", "ports": list(ports), "project": "seawall-none", "root": "/none"}
    return module_run("seawall_host_probe", arguments=arguments | more)


def test_the_engine_and_its_images_are_asked_for_as_well(docker: Path) -> None:
    answer = probe()
    assert answer["engine"]["stdout"] == ""
    assert "No such file" in answer["engine"]["stderr"]
    assert answer["images"] is None
    plugins = [{"Name": "compose", "Version": "2.26", "Path": "/usr/bin/compose"}]
    kept = {"ServerVersion": "20.10", "LiveRestoreEnabled": False}
    info = kept | {"Containers": 7, "ServerErrors": None, "ClientInfo": {"Debug": False, "Plugins": plugins}}
    (docker / "info").write_text(json.dumps(info), encoding="utf-8")
    (docker / "images").write_text("", encoding="utf-8")
    answer = probe()
    told = kept | {"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "2.26"}]}}
    assert (json.loads(answer["engine"]["stdout"]), answer["images"]) == (told, [])
    (docker / "images").write_text("seawall/base:1\nseawall/edge:2\n", encoding="utf-8")
    assert probe()["images"] == ["seawall/base:1", "seawall/edge:2"]


def test_ports_that_the_project_itself_publishes_are_not_taken(docker: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert list(probe(port)["taken_ports"]) == [str(port)]
        (docker / "publishes").write_text("c0ffee\n", encoding="utf-8")
        assert probe(port)["taken_ports"] == {}


@pytest.mark.usefixtures("docker")
def test_a_port_of_ipv6_is_taken_and_one_of_a_mere_connection_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert probe(client.getsockname()[1])["taken_ports"] == {}
    if socket.has_dualstack_ipv6():
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
            assert f"(pid {os.getpid()})" in probe(port)["taken_ports"][str(port)]


def test_a_connected_socket_of_udp_holds_its_port() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.connect(("127.0.0.1", 9))
        port = taken.getsockname()[1]
        assert list(probe(udp_ports=[port])["taken_ports"]) == [f"{port}/udp"]


def test_the_disk_of_the_engines_data_is_told_as_well() -> None:
    assert {"/", engine_data(read("/etc/docker/daemon.json"), "/nowhere/data")} == set(
        probe(data_root="/nowhere/data")["free_gib"]
    )
