"""What the one screen says about backups that run by themselves."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from module_run import module_run
from seawall_status import age, certificate_days, parse_properties, renewal_note, schedule_line

RUNS = {"LoadState": "loaded", "ActiveState": "active", "NextElapseUSecRealtime": "Wed 2026-11-25 03:24:11 UTC"}
GONE = {"LoadState": "not-found", "ActiveState": "inactive", "NextElapseUSecRealtime": ""}
WENT_WELL = {"ActiveState": "inactive", "Result": "success"}
FAILED = {"ActiveState": "failed", "Result": "exit-code"}


def test_properties_keep_what_stands_after_the_first_sign() -> None:
    assert parse_properties("A=b=c\nEmpty=\n\n") == {"A": "b=c", "Empty": ""}


@pytest.mark.parametrize(
    ("timer", "service", "words"),
    [
        (RUNS, WENT_WELL, ["Wed 2026-11-25 03:24:11 UTC"]),
        (RUNS | {"NextElapseUSecRealtime": ""}, {"ActiveState": "activating"}, ["is running now"]),
        (RUNS | {"NextElapseUSecRealtime": ""}, WENT_WELL, ["none", "backup_schedule.on_calendar does not come again"]),
        (RUNS | {"ActiveState": "inactive"}, WENT_WELL, ["none", "shop-backup.timer does not run", "./seawall deploy"]),
        (GONE, WENT_WELL, ["none by itself", "backup_schedule.enabled is false"]),
        (RUNS, FAILED, ["03:24:11", "FAILED (exit-code)", "journalctl --unit shop-backup.service"]),
    ],
    ids=["waits", "runs", "past", "stopped", "switched off", "failed"],
)
def test_the_schedule_and_a_failure_are_told(timer: dict[str, str], service: dict[str, str], words: list[str]) -> None:
    line = schedule_line(timer, service, "shop-backup")
    assert [word for word in words if word not in line] == []
    assert ("FAILED" in line) == (service["ActiveState"] == "failed")


def test_only_a_failed_renewal_is_told() -> None:
    assert renewal_note(WENT_WELL, "shop-acme") == ""
    assert "RENEWAL FAILED (exit-code), see journalctl --unit shop-acme.service" in renewal_note(FAILED, "shop-acme")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7199, "119 minutes"), (7200, "2 hours"), (172800, "2 days")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: int, words: str) -> None:
    assert age(seconds) == words


def container(service: str, state: dict[str, object], **labels: str) -> dict[str, Any]:
    labels = {"com.docker.compose.service": service} | {f"com.docker.compose.{name}": value for name, value in labels.items()}
    started = {"StartedAt": "2026-11-25T10:00:00.123456789Z"}
    return {"Id": service, "Config": {"Image": f"seawall/{service}:1", "Labels": labels}, "State": state | started}


RUNNING = {"Status": "running", "Running": True, "Health": {"Status": "healthy"}}
ENDED = {"Status": "exited", "Running": False, "Health": {"Status": "unhealthy"}}


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """What the module says of an installation with three sets of backups; its docker knows a few containers."""
    root = tmp_path / "root"
    (root / "upstream").mkdir(parents=True)
    (root / "upstream/current").symlink_to("green")
    for days, name in enumerate(["20261125T000000Z-B", "20261124T000000Z-A", "no-set", ".partial-x"]):
        (root / "backups" / name).mkdir(parents=True)
        if name != "no-set":
            (root / "backups" / name / "manifest.json").touch()
            os.utime(root / "backups" / name / "manifest.json", (time.time() - 86400 * (3 + days),) * 2)
    containers = [
        container("api-green", RUNNING, oneoff="False"),
        container("api-blue", ENDED, oneoff="False"),
        container("postgres", RUNNING),
        container("migrate", ENDED, oneoff="True"),
    ]
    (tmp_path / "inspected").write_text(json.dumps(containers), encoding="utf-8")
    (tmp_path / "docker").write_text(
        f"#!/bin/sh\ncase $1 in ps) echo some ;; inspect) cat {tmp_path}/inspected ;; exec) echo $2-at-0042 ;; esac\n",
        encoding="utf-8",
    )
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def shown() -> dict[str, str]:
        arguments = {"project": "shop", "root": str(root), "domain": "a.example"}
        lines = module_run("seawall_status", arguments=arguments)["screen"]
        return {line[:13].strip(): line[13:].strip() for line in lines}

    return shown


def test_the_screen_tells_what_is_there(screen: Callable[[], dict[str, str]], tmp_path: Path) -> None:
    said = screen()
    assert said["api-green"] == "running healthy     seawall/api-green:1"
    assert said["api-blue"] == "exited              seawall/api-blue:1"
    assert "migrate" not in said
    assert said["release"] == "seawall/api-green:1 on green, started 2026-11-25T10:00:00Z"
    assert said["schema"] == "postgres-at-0042"
    assert said["certificate"].startswith("unknown: ")
    assert said["last backup"] == "20261125T000000Z-B, 3 days old, restored once; 2 kept"
    free, _, _, _, total = said["disk"].split()
    assert 0 <= float(free) <= float(total)
    assert said["maintenance"] == "off"
    (tmp_path / "root/upstream/maintenance").touch()
    assert screen()["maintenance"].startswith("ON for 0 seconds: clients get 503")


def test_where_nothing_is_kept_the_verb_is_named(screen: Callable[[], dict[str, str]], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "root/backups")
    (tmp_path / "root/backups").mkdir()
    assert screen()["last backup"] == "none yet; make one with ./seawall backup"


def test_days_of_the_certificate_that_is_served(tmp_path: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number()).not_valid_before(now)
    certificate = builder.not_valid_after(now + datetime.timedelta(days=30, hours=1)).sign(key, hashes.SHA256())
    path = tmp_path / "fullchain.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            with context.wrap_socket(plain.accept()[0], server_side=True) as served:
                served.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        said = certificate_days(str(path), "127.0.0.1", plain.getsockname()[1], "a.example")
        thread.join()
    assert said == "30 days left for a.example"
