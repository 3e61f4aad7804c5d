"""Everything an operator asks first, gathered in one module run that changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_status
short_description: One screen about an installation
options:
  project: {description: Name of the Compose project., type: str, required: true}
  root: {description: Directory that holds the installation., type: path, required: true}
  domain: {description: Name that the certificate is asked for., type: str, required: true}
"""

import ipaddress
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DAY = 86400


def age(seconds: float) -> str:
    """A duration in its largest sensible unit."""
    for unit, length in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} seconds"


def service_line(container: dict[str, Any]) -> str:
    """One `docker inspect` entry as a line."""
    state = container["State"]
    name = container["Config"]["Labels"]["com.docker.compose.service"]
    health = (state.get("Health") or {}).get("Status", "")
    status = f"{state['Status']} {health if state['Running'] else ''}".strip()
    return f"  {name:<11}{status:<20}{container['Config']['Image']}"


def certificate_days(fullchain: str, address: str, port: int, name: str) -> str:
    """Days that the certificate served on an address still has, whoever issued it."""
    context = ssl.create_default_context()
    context.load_verify_locations(fullchain)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    with (
        socket.create_connection((address, port), timeout=3) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        certificate = connection.getpeercert() or {}
    left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
    return f"{int(left // DAY)} days left for {name}"


def newest_backup(directory: str) -> str:
    """The newest published set; sets are published by an atomic rename, so a directory with a manifest is whole."""
    names = [n for n in os.listdir(directory) if os.path.isfile(os.path.join(directory, n, "manifest.json")) and n[0] != "."]
    if not names:
        return "none yet; make one with ./seawall backup"
    newest = max(names, key=lambda n: os.path.getmtime(os.path.join(directory, n, "manifest.json")))
    made = os.path.getmtime(os.path.join(directory, newest, "manifest.json"))
    return f"{newest}, {age(time.time() - made)} old, restored once; {len(names)} kept"


def parse_properties(output: str) -> dict[str, str]:
    """What `systemctl show` prints, by name."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def schedule_line(timer: Mapping[str, str], service: Mapping[str, str], unit: str) -> str:
    """When the next backup runs by itself, and whether the last one that did has failed."""
    if timer.get("ActiveState") == "active" and service.get("ActiveState") == "activating":
        text = "is running now"
    elif timer.get("ActiveState") == "active":
        text = timer.get("NextElapseUSecRealtime") or "none: backup_schedule.on_calendar does not come again"
    elif timer.get("LoadState") == "loaded":
        text = f"none: {unit}.timer does not run; start it with ./seawall deploy"
    else:
        text = "none by itself: backup_schedule.enabled is false"
    if service.get("ActiveState") == "failed":
        text += f"; THE LAST ONE FAILED ({service.get('Result', '')}), see journalctl --unit {unit}.service"
    return text


def renewal_note(service: Mapping[str, str], unit: str) -> str:
    """What the certificate's line says besides, where the last renewal by itself has failed."""
    if service.get("ActiveState") != "failed":
        return ""
    return f"; THE LAST RENEWAL FAILED ({service.get('Result', '')}), see journalctl --unit {unit}.service"


def release_line(link: str, by_name: dict[str, Any]) -> str:
    """What is in charge, told from what runs and not from the journal."""
    colour = os.readlink(link)
    container = by_name[f"api-{colour}"]
    return f"{container['Config']['Image']} on {colour}, started {container['State']['StartedAt'][:19]}Z"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "domain": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    root: str = module.params["root"]
    project: str = module.params["project"]
    docker = shutil.which("docker")
    systemctl = shutil.which("systemctl") if os.path.isdir("/run/systemd/system") else None

    def run(*arguments: str) -> str:
        code, output, errors = module.run_command([str(docker), *arguments])
        if code != 0:
            raise OSError(errors.strip().splitlines()[-1] if errors.strip() else f"docker {arguments[0]} failed")
        return str(output).strip()

    def tell(title: str, ask: Callable[[], str]) -> str:
        try:
            return f"{title:<13}{ask()}"
        except (OSError, KeyError, IndexError, ValueError) as error:
            return f"{title:<13}unknown: {error}"

    if not docker or not os.path.isdir(root):
        module.exit_json(changed=False, screen=[f"Nothing is installed under {root}. Start with ./seawall deploy."])
    try:
        ids = run("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").split()
        containers = json.loads(run("inspect", "--type", "container", *ids)) if ids else []
    except OSError as error:
        module.fail_json(msg=f"The Docker Engine does not answer: {error}. Start it with ./seawall deploy.")
    containers.sort(key=lambda c: c["Config"]["Labels"]["com.docker.compose.service"])
    by_name = {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in containers}
    link = os.path.join(root, "upstream", "current")

    def schema() -> str:
        query = "SELECT version_num FROM app.alembic_version"
        return run("exec", by_name["postgres"]["Id"], "psql", "-XAtq", "--dbname=app", f"--command={query}")

    def certificate() -> str:
        binding = by_name["edge"]["NetworkSettings"]["Ports"]["8443/tcp"][0]
        bound = ipaddress.ip_address(binding["HostIp"] or "127.0.0.1")
        address = "127.0.0.1" if bound.is_unspecified else str(bound)
        line = certificate_days(
            os.path.join(root, "tls", "fullchain.pem"), address, int(binding["HostPort"]), module.params["domain"]
        )
        unit = f"{project}-acme"
        return line + (renewal_note(unit_properties(f"{unit}.service"), unit) if systemctl else "")

    def disk() -> str:
        usage = shutil.disk_usage(root)
        return f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f}"

    def unit_properties(unit: str) -> dict[str, str]:
        wanted = "--property=LoadState,ActiveState,Result,NextElapseUSecRealtime"
        code, output, errors = module.run_command([str(systemctl), "show", unit, wanted])
        if code != 0:
            raise OSError(errors.strip() or f"systemctl show {unit} failed")
        return parse_properties(str(output))

    def maintenance() -> str:
        flag = os.path.join(root, "upstream", "maintenance")
        if not os.path.exists(flag):
            return "off"
        return f"ON for {age(time.time() - os.path.getmtime(flag))}: clients get 503, until ./seawall maintenance off"

    def next_backup() -> str:
        if not systemctl:
            return "none by itself, for PID 1 is not systemd: put ./seawall backup in cron where you deploy from"
        unit = f"{project}-backup"
        return schedule_line(unit_properties(f"{unit}.timer"), unit_properties(f"{unit}.service"), unit)

    lasting = [c for c in containers if c["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"]
    screen = ["services", *map(service_line, lasting)]
    screen += [
        tell("release", lambda: release_line(link, by_name)),
        tell("maintenance", maintenance),
        tell("schema", schema),
        tell("certificate", certificate),
        tell("last backup", lambda: newest_backup(os.path.join(root, "backups"))),
        tell("next backup", next_backup),
        tell("disk", disk),
    ]
    module.exit_json(changed=False, screen=screen)


if __name__ == "__main__":
    main()
