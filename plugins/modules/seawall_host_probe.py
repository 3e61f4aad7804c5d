"""What preflight must know about a host, in one module run that changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_host_probe
short_description: Distribution, init system, memory, disk, address and port owners of a host, and what is installed there
description:
  - One run where narrow fact gathering, a port listing and questions to the engine would take five, and no fact is gathered
    that is not used.
  - C(engine) is what C(docker info) answers of use here, as JSON in C(stdout), which is empty where there is no Docker.
    C(images) are those of Seawall by repository and tag, or null where no engine lists them.
  - C(certificate) is what is installed for the edge, C(content) as the bytes of its file in base64, empty where there is none,
    C(has_key) whether its key is there, which is not read, and C(has_ca) whether the certificate of the host's own CA is.
options:
  paths:
    description: Paths whose file system must have free space; the nearest existing parent counts.
    type: list
    elements: path
    required: true
  address: {description: Address that ports will be published on., type: str, required: true}
  ports: {description: TCP ports that will be published., type: list, elements: int, required: true}
  udp_ports: {description: UDP ports that will be published., type: list, elements: int, default: []}
  project: {description: Compose project whose own published ports do not count as taken., type: str, required: true}
  root: {description: The project's root; whose installation it holds is told., type: path, required: true}
  data_root:
    description: Where an engine is to keep its data whose settings on the host do not say so; its disk is told as well.
    type: str
    default: ""
"""

import base64
import glob
import json
import os
import re
import shutil
import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# A socket's state that takes what comes, by protocol. One of UDP that is connected hears its peer alone, but holds the port too.
WAITING = {"tcp": {"0A"}, "udp": {"07", "01"}}


def parse_os_release(text: str) -> dict[str, str]:
    """The fields of os-release(5), unquoted."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip().strip("\"'") for key, value in pairs}


def memory_mebibytes(meminfo: str) -> int:
    """MemTotal of /proc/meminfo in MiB."""
    return next(int(line.split()[1]) // 1024 for line in meminfo.splitlines() if line.startswith("MemTotal:"))


def listening_inodes(table: str, port: int, protocol: str = "tcp") -> set[str]:
    """Socket inodes that listen on a port, from the text of a protocol's table below /proc/net."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {row[9] for row in rows if row[3] in WAITING[protocol] and int(row[1].rsplit(":", 1)[1], 16) == port}


def can_bind(address: str) -> bool:
    """Whether a program can listen on an address and be reached there; settings of the kernel have a say in that."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as opened, socket.socket(family, socket.SOCK_DGRAM) as asked:
            opened.bind((address, 0))
            # A broadcast address can be bound, but this refuses it; nothing is sent.
            asked.connect((address, 9))
    except OSError:
        return False
    return True


def engine_data(daemon_json: str, wanted: str) -> str:
    """Where the engine keeps its data: what its settings on the host say, then what they are to be, then its own default."""
    try:
        found = json.loads(daemon_json or "{}")
    except ValueError:
        found = {}
    set_there = found.get("data-root") if isinstance(found, dict) else None
    return str(set_there or wanted or "/var/lib/docker")


def free_gibibytes(path: str) -> float:
    """Free space of the file system that path is or will be on, in GiB."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return round(shutil.disk_usage(path).free / 2**30, 1)


def program_of(inodes: set[str]) -> str:
    """Name of a program that holds one of the sockets, or a phrase that says it cannot be seen."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for descriptor in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) in wanted:
                process = descriptor.split("/")[2]
                with open(f"/proc/{process}/comm", encoding="utf-8") as stream:
                    return f"{stream.read().strip()} (pid {process})"
        except OSError:
            continue
    return "a program that could not be identified"


def environment_value(text: str, name: str) -> str:
    """The value of a name in a Compose environment file; empty where it has none."""
    return next((line.partition("=")[2].strip() for line in text.splitlines() if line.startswith(f"{name}=")), "")


def other_roots(working_directories: str, root: str) -> list[str]:
    """Roots that containers were made from, one working directory a line, apart from the one given."""
    roots = {os.path.dirname(os.path.realpath(line)) for line in working_directories.splitlines() if line.startswith("/")}
    return sorted(roots - {os.path.realpath(root)})


def reachable_ports(listing: str, project: str) -> tuple[dict[str, str], dict[str, str]]:
    """Ports of others that are reached from outside: TCP ports of installations' edges by Compose project, and of the rest by
    container, as 53 or 53/udp.

    `listing` has a line for each container: Compose project, Compose service, name and ports, as `0.0.0.0:443->8443/tcp, …`,
    separated by tabs.
    """
    edges: dict[str, str] = {}
    containers: dict[str, str] = {}
    for line in listing.splitlines():
        other, service, name, ports = line.split("\t")
        for address, first, last, protocol in re.findall(r"(\S+):(\d+)(?:-(\d+))?->[\d-]+/(tcp|udp)", ports):
            if address.startswith("127.") or address.strip("[]") == "::1" or other == project:
                continue
            for port in range(int(first), int(last or first) + 1):
                if service != "edge":
                    containers[str(port) if protocol == "tcp" else f"{port}/udp"] = name
                elif protocol == "tcp":
                    edges[str(port)] = other
    return edges, containers


def essence(info: str) -> str:
    """Of the JSON that `docker info` prints what a deploy decides on, as JSON; each task that asks would read all of it again."""
    try:
        found = json.loads(info)
    except ValueError:
        return info
    plugins = (found.get("ClientInfo") or {}).get("Plugins") or []
    kept = {name: found.get(name) for name in ("ServerVersion", "ServerErrors", "LiveRestoreEnabled", "SecurityOptions")}
    kept["ClientInfo"] = {"Plugins": [{"Name": plugin.get("Name"), "Version": plugin.get("Version")} for plugin in plugins]}
    return json.dumps({name: value for name, value in kept.items() if value is not None})


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def read(path: str) -> str:
    return read_bytes(path).decode()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "udp_ports": {"type": "list", "elements": "int", "default": []},
            "project": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "data_root": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    release = parse_os_release(read("/etc/os-release"))
    taken: dict[str, str] = {}
    docker = shutil.which("docker")
    ours = f"label=com.docker.compose.project={module.params['project']}"
    wanted = [(port, "tcp") for port in module.params["ports"]] + [(port, "udp") for port in module.params["udp_ports"]]
    for port, protocol in wanted:
        tables = [read(f"/proc/net/{protocol}{version}") for version in ("", "6")]
        inodes = set().union(*(listening_inodes(table, port, protocol) for table in tables))
        if not inodes:
            continue
        if docker:
            publishing = f"publish={port}/{protocol}"
            code, output, _ = module.run_command([docker, "ps", "--quiet", "--filter", publishing, "--filter", ours])
            if code == 0 and output.strip():
                continue
        taken[str(port) if protocol == "tcp" else f"{port}/{protocol}"] = program_of(inodes)
    directories = volumes = published = ""
    engine = {"stdout": "", "stderr": ""}
    images: list[str] | None = None
    if docker:
        label = '{{.Label "com.docker.compose.project.working_dir"}}'
        code, answer, errors = module.run_command([docker, "info", "--format", "{{json .}}"])
        engine = {"stdout": essence(answer), "stderr": errors}
        listing = [docker, "image", "ls", "--filter", "reference=seawall/*", "--format", "{{.Repository}}:{{.Tag}}"]
        code, answer, _ = module.run_command(listing)
        images = answer.split() if code == 0 else None
        directories = module.run_command([docker, "ps", "--all", "--filter", ours, "--format", label])[1]
        volumes = module.run_command([docker, "volume", "ls", "--filter", ours, "--format", "{{.Name}}"])[1]
        labels = (f'{{{{.Label "com.docker.compose.{name}"}}}}' for name in ("project", "service"))
        published = module.run_command([docker, "ps", "--format", "\t".join([*labels, "{{.Names}}", "{{.Ports}}"])])[1]
    root: str = module.params["root"]
    data = engine_data(read("/etc/docker/daemon.json"), module.params["data_root"])
    edges, containers = reachable_ports(published, module.params["project"])
    result: dict[str, Any] = {
        "distribution": release.get("ID", "unknown"),
        "version": release.get("VERSION_ID", ""),
        "name": release.get("PRETTY_NAME", "an unknown system"),
        "cpus": os.cpu_count() or 1,
        "memory_mib": memory_mebibytes(read("/proc/meminfo")),
        "free_gib": {path: free_gibibytes(path) for path in [*module.params["paths"], data]},
        "has_address": can_bind(module.params["address"]),
        "taken_ports": taken,
        "is_root": os.geteuid() == 0,
        "systemd": os.path.isdir("/run/systemd/system"),
        "root_holds": environment_value(read(os.path.join(root, "compose/.env")), "SEAWALL_PROJECT"),
        "other_roots": other_roots(directories, root),
        "volumes": sorted(volumes.split()),
        "certificate": {
            "content": base64.b64encode(read_bytes(os.path.join(root, "tls/fullchain.pem"))).decode(),
            "has_key": os.path.isfile(os.path.join(root, "tls/privkey.pem")),
            "has_ca": os.path.isfile(os.path.join(root, "tls/ca.pem")),
        },
        "engine": engine,
        "images": images,
        "others_ports": edges,
        "containers_ports": containers,
    }
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
