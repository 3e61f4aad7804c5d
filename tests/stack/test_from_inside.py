"""What an attacker inside would find: processes, files, sockets and secrets of the running containers."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
import testinfra
from conftest import Stack
from installation import (
    HTTP_PORT,
    HTTPS_PORT,
    PROJECT,
    REPOSITORY,
    ROOT,
    all_secrets,
    ask,
    containers,
    docker,
    in_charge,
    query,
    services,
    shown,
)

pytestmark = pytest.mark.usefixtures("stack")

USERS = {"edge": 10101, "api": 10102, "auth": 10102, "postgres": 10103, "cache": 10104}
SERVICES = ["edge", "api", "auth", "postgres", "cache"]
PIECE = 1 << 20
# As roles/images has it by default.
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def processes(name: str) -> list[int]:
    """The host's ids of a container's processes."""
    listing = docker("top", containers()[in_charge(name)]["Id"], "-eo", "pid")
    return [int(word) for word in listing.split()[1:]]


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_confined(name: str) -> None:
    entry = containers()[in_charge(name)]
    host = entry["HostConfig"]
    assert entry["Config"]["User"] == f"{USERS[name]}:{USERS[name]}"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges=true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"].get("max-size")
    assert "docker.sock" not in json.dumps(entry["Mounts"])


def test_the_edge_writes_to_one_tmpfs_and_to_its_sockets() -> None:
    entry = containers()["edge"]
    assert set(entry["HostConfig"]["Tmpfs"]) == {"/run/nginx"}
    assert {mount["Destination"] for mount in entry["Mounts"] if mount["RW"]} == {"/run/edge-status"}


@pytest.mark.requirement("MET-02")
def test_the_scraper_reads_what_nobody_outside_can() -> None:
    """By the commands of the page, as root on the host."""
    page = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
    (block,) = [found for found in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "stub_status" in found]
    done = subprocess.run(["sh", "-euc", block.replace("/opt/seawall/", f"{ROOT}/")], capture_output=True, text=True, check=True)
    assert re.search(r"^http_requests_total\{.*\} \d", done.stdout, re.MULTILINE)
    assert re.search(r"^Active connections: \d+", done.stdout, re.MULTILINE)
    assert ask("/metrics").status == 404
    assert "Active connections" not in str(ask("/stub_status").body)


def told_of_each(name: str, file: str) -> list[str]:
    """What /proc says of each process of a container; a health check's own may be over meanwhile."""
    found = []
    for process in processes(name):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(Path(f"/proc/{process}/{file}").read_text(encoding="utf-8"))
    assert found
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_processes_have_no_privilege(name: str) -> None:
    for status in told_of_each(name, "status"):
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert set(fields["Uid"].split()) == {str(USERS[name])}
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"].strip() == "1"


@pytest.mark.parametrize("name", SERVICES)
def test_processes_dump_no_core(name: str) -> None:
    for told in told_of_each(name, "limits"):
        limits = told.splitlines()
        assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]


@pytest.mark.parametrize("name", SERVICES)
def test_root_file_system_cannot_be_written(name: str) -> None:
    """By nobody, root included, who owns it: the service's own user could not write there anyway."""
    container = containers()[in_charge(name)]["Id"]
    for path in ("/x", "/etc/x", "/usr/local/bin/x"):
        touch = ["docker", "exec", "--user", "0", container, "touch", path]
        done = subprocess.run(touch, capture_output=True, text=True, check=False)
        assert (done.returncode, "Read-only file system" in done.stderr) == (1, True), done


@pytest.mark.requirement("SEC-05")
@pytest.mark.parametrize("name", ["api", "auth"])
def test_service_listens_on_no_tcp_port(name: str) -> None:
    process = processes(name)[0]
    for table in ("tcp", "tcp6"):
        rows = Path(f"/proc/{process}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]
        listening = [row.split()[1] for row in rows if row.split()[3] == "0A"]
        # Docker's own resolver listens on 127.0.0.11 in every container.
        assert [address for address in listening if not address.startswith("0B00007F:")] == []


@pytest.mark.requirement("EDGE-04")
def test_only_the_edge_publishes_ports() -> None:
    published = {
        # Asked for, and not only in force: a network without a way out keeps a wrong one back for as long as it is that.
        name: {
            (b["HostIp"], int(b["HostPort"])) for bindings in entry["HostConfig"]["PortBindings"].values() for b in bindings or []
        }
        for name, entry in containers().items()
    }
    assert published.pop("edge") == {("127.0.0.1", HTTP_PORT), ("127.0.0.1", HTTPS_PORT)}
    assert published
    assert not any(published.values())


def test_data_network_leads_nowhere() -> None:
    network = json.loads(docker("network", "inspect", f"{PROJECT}_data"))[0]
    assert network["Internal"]
    for name in ("api", "auth", "postgres", "cache"):
        assert list(containers()[in_charge(name)]["NetworkSettings"]["Networks"]) == [f"{PROJECT}_data"]
    assert list(containers()["edge"]["NetworkSettings"]["Networks"]) == [f"{PROJECT}_edge"]


@pytest.mark.parametrize("name", ["api", "auth"])
def test_service_sees_no_socket_but_its_own(name: str) -> None:
    host = testinfra.get_host(f"docker://{containers()[in_charge(name)]['Id']}")
    found = host.run("find /run/upstream -type s").stdout.split()
    assert found == [f"/run/upstream/{in_charge(name).split('-')[1]}/{name}/http.sock"]
    assert host.run("touch /run/upstream/x").rc != 0


def test_secret_files_are_closed() -> None:
    directory = ROOT / "secrets"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert directory.stat().st_uid == 0
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o400, path
    for key in (ROOT / "tls/privkey.pem", ROOT / "tls-ca/ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o400, key
    # That of the certificate's authority is nobody's but root's.
    assert stat.S_IMODE((ROOT / "tls-ca").stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in (ROOT / "tls-ca", ROOT / "tls-ca/ca.key")} == {0}
    assert not (ROOT / "secrets/first_user_password").exists()


def test_world_readable_files_hold_no_secret() -> None:
    secrets = all_secrets()
    assert len(secrets) >= 5
    for path in ROOT.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o004:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert [name for name, value in secrets.items() if value in text] == [], path


@pytest.mark.requirement("SEC-09")
def test_no_secret_in_inspect_environment_arguments_or_logs(stack: Stack) -> None:
    secrets = all_secrets() | {"first user": stack.password}
    places: dict[str, str] = {}
    for name, entry in containers().items():
        places[f"docker inspect {name}"] = json.dumps(entry)
        logs = subprocess.run(["docker", "logs", entry["Id"]], capture_output=True, text=True, check=True)
        places[f"logs of {name}"] = logs.stdout + logs.stderr
        if entry["State"]["Running"]:
            for process in docker("top", entry["Id"], "-eo", "pid").split()[1:]:
                for what in ("environ", "cmdline"):
                    places[f"{what} of {name}"] = Path(f"/proc/{process}/{what}").read_text(encoding="utf-8", errors="replace")
    for image in sorted(service_images()):
        places[f"image {image}"] = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    places["first deploy"] = stack.first_run.output
    found = [(place, name) for place, text in places.items() for name in shown(secrets, text)]
    assert found == []


def service_images() -> set[str]:
    """Every image that a service or job here is made from; there is none for certificates of an authority."""
    found = services()
    not_made = {found["acme"]["image"]}
    return {service["image"] for service in found.values()} - not_made


def pieces(blob: IO[bytes]) -> Iterator[bytes]:
    """A file of an image archive piece by piece; some engines compress the layers."""
    piece = blob.read(PIECE)
    inflate = zlib.decompressobj(wbits=31).decompress if piece.startswith(b"\x1f\x8b") else bytes
    while piece:
        yield inflate(piece)
        piece = blob.read(PIECE)


def found_in(blob: IO[bytes], wanted: dict[str, bytes]) -> set[str]:
    """Names of the values that are in a file, those that begin in one piece and end in the next included."""
    found: set[str] = set()
    kept = b""
    longest = max(len(value) for value in wanted.values())
    for piece in pieces(blob):
        window = kept + piece
        found |= {name for name, value in wanted.items() if value in window}
        kept = window[-longest:]
    return found


def test_no_secret_and_no_authority_of_this_machine_in_a_layer_of_an_image(stack: Stack) -> None:
    # A file that is in a layer for certain shows that the search would find something.
    wanted = {"control": (REPOSITORY / "app/bin/seawall-healthcheck").read_bytes()}
    wanted |= {name: value.encode() for name, value in (all_secrets() | {"first user": stack.password}).items()}
    # What a build may use and no image may keep: the authorities that this machine trusts.
    wanted["CA bundle"] = CA_BUNDLE.read_bytes()[-1024:]
    found: set[str] = set()
    save = ["docker", "image", "save", *sorted(service_images())]
    with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        with tarfile.open(fileobj=saving.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile() and (blob := archive.extractfile(member)):
                    found |= found_in(blob, wanted)
        saving.stdout.read()
    assert saving.returncode == 0
    assert found == {"control"}


def test_every_service_and_job_is_confined_and_told_no_secret() -> None:
    secrets = all_secrets()
    found = services()
    assert {"migrate", "first-user", "backup", "acme"} < set(found)
    for name, service in found.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges=true"], name
        # Compose leaves zeroes out.
        assert not any(service["ulimits"]["core"].values()), name
        assert not {"cap_add", "privileged", "devices", "pid", "ipc", "network_mode"} & set(service), name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert "docker.sock" not in json.dumps(service), name
        assert [secret for secret, value in secrets.items() if value in json.dumps(service)] == [], name


@pytest.mark.requirement("RUN-04")
@pytest.mark.parametrize("name", ["edge", "api-blue", "postgres", "cache", "backup"])
def test_image_carries_no_tools_for_building(name: str) -> None:
    # cat is in every image: that it is found shows that the search works.
    search = (
        "for tool in cat gcc cc make pip pip3 git curl wget; do command -v $tool || true; done; "
        "find /var/lib/apt/lists -type f; find / -xdev -path '*/.cache/pip*'"
    )
    # As root, who may look everywhere.
    options = ["--rm", "--network=none", "--user=0", "--entrypoint=sh", services()[name]["image"]]
    assert docker("run", *options, "-ec", search) == "/usr/bin/cat"


@pytest.mark.requirement("EDGE-03")
def test_logs_are_json_with_the_request_id(session: dict[str, str]) -> None:
    wanted = "stack-test-request-id"
    ask("/api/v1/documents", headers=session | {"X-Request-ID": wanted})
    for name in ("edge", "api", "auth"):
        done = subprocess.run(["docker", "logs", containers()[in_charge(name)]["Id"]], capture_output=True, text=True, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert wanted in {line.get("request_id") for line in lines}, name


def test_database_stands_as_promised() -> None:
    assert query("SHOW server_version").startswith("17.")
    assert query("SHOW data_checksums") == "on"
    assert query("SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = 'app'") == "b C.UTF-8"
    assert query("SELECT count(*) FROM seawall.grant_drift") == "0"
    hba = query("SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type <> 'local' ORDER BY 1").split()
    assert set(hba) == {"reject", "scram-sha-256"}
    assert query("SELECT source FROM pg_settings WHERE name = 'shared_buffers'") == "configuration file"


def test_repository_is_what_was_deployed() -> None:
    assert (ROOT / "compose/stack.yml").read_bytes() == (REPOSITORY / "compose/stack.yml").read_bytes()
