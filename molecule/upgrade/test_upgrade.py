"""A host with an older state of this repository, and data on it, is brought to this one while a client reads and writes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deployed import COMMAND, DOMAIN, ENVIRONMENT, PORT, REPOSITORY, ROOT, SETTINGS, Host, Run
from steady_client import SteadyClient, over_tls

# Newer than every change that SETTINGS could not be deployed with, and older than everything an upgrade must get over.
OLDER = "fce67e50bab2fdacda7571cd9726d0f6498af9c6"

# Keys that dicts of the older inventory have gained since, which the check names and the operator then gives.
GAINED: dict[str, dict[str, object]] = {
    "host_baseline_firewall": {"allowed_udp": []},
    "edge_timeouts": {"socket_seconds": 60},
}
NOW = ("--extra-vars", json.dumps({name: SETTINGS[name] | keys for name, keys in GAINED.items()}))
# Made from the secrets and from rules of this repository, which may change.
DERIVED = {"cache_acl", "db_verifiers"}

# The scenario's end removes it.
OLDER_CHECKOUT = Path(SETTINGS["auth_first_user"]["show_in"]).with_name("older")
OLDER_IMAGES = Path(f"{os.environ['SEAWALL_TEST_IMAGES']}.older")
# In these a container that every request needs is made anew, so that requests fail. Nowhere else may one.
RESTARTS = {"postgres : Bring Postgres up": {"postgres"}, "edge : Start the edge": {"edge"}}


def play(
    playbook: str, *options: str, checkout: Path = REPOSITORY, images: str = "", begun: Callable[[str], None] = lambda _: None
) -> Run:
    """Run a playbook of a checkout against the host, and tell of each task when it begins."""
    # Where skipped tasks are not shown, a task is told of when its first result is there.
    shown = {"ANSIBLE_CONFIG": str(checkout / "ansible.cfg"), "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    environment = ENVIRONMENT | shown
    if images:
        environment["SEAWALL_TEST_IMAGES"] = images
    lines: list[str] = []
    with subprocess.Popen(
        [*COMMAND, f"playbooks/{playbook}.yml", *options],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout
        for line in run.stdout:
            lines.append(line)
            if task := re.match(r"TASK \[(.*)\]", line):
                begun(task[1])
    output = "".join(lines)
    recap = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", output.rpartition("PLAY RECAP")[2])}
    return Run(run.returncode, output, recap)


def succeeded(run: Run) -> Run:
    assert run.code == 0, run.output[-5000:]
    return run


@pytest.fixture(scope="module")
def checkout() -> Path:
    """The older state's files, from this repository's own history."""
    git = ["git", "-c", f"safe.directory={REPOSITORY}", "-C", str(REPOSITORY)]
    asked = subprocess.run([*git, "archive", "--format=tar", OLDER], capture_output=True, check=False)
    if asked.returncode != 0:
        pytest.fail(
            f"An upgrade begins with commit {OLDER[:12]} of this repository, and git does not find it in {REPOSITORY}: "
            f"{asked.stderr.decode().strip()}. Fetch the whole history (git fetch --unshallow), or clone the repository",
            pytrace=False,
        )
    OLDER_CHECKOUT.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "--extract", f"--directory={OLDER_CHECKOUT}"], input=asked.stdout, check=True)
    return OLDER_CHECKOUT


@pytest.fixture(scope="module")
def older_images(checkout: Path) -> Iterator[Path]:
    """The older state's images; whatever this one has as it was is there already."""
    shutil.copy(Path(__file__).with_name("save_images.yml"), checkout / "playbooks")
    command = ["ansible-playbook", "playbooks/save_images.yml", "--extra-vars", f"images_to={OLDER_IMAGES}"]
    environment = ENVIRONMENT | {"ANSIBLE_CONFIG": str(checkout / "ansible.cfg")}
    try:
        built = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
        yield OLDER_IMAGES
    finally:
        OLDER_IMAGES.unlink(missing_ok=True)


def files(deployed: Host, directory: str) -> dict[str, str]:
    """Owner, mode and hash of every file below a directory of the installation."""
    listing = deployed.must(f"find {ROOT}/{directory} -type f -printf '%U:%m ' -exec sha256sum {{}} ';'")
    return {path: f"{owner} {digest}" for owner, digest, path in (line.split(maxsplit=2) for line in listing.splitlines())}


def units(deployed: Host) -> set[str]:
    """Every unit of this installation that systemd has a file of."""
    listing = deployed.must("find /etc/systemd/system -type f -name 'seawall-*' -printf '%f\\n'")
    return set(listing.split())


def query(deployed: Host, database: str, sql: str) -> str:
    psql = f"psql -XAtq --dbname={database} --command={shlex.quote(sql)}"
    return deployed.must(f"docker compose --file {ROOT}/compose/stack.yml exec --no-TTY postgres {psql}")


@dataclass
class Older:
    """What there was before the upgrade, and what the people who used it hold."""

    authority: str
    password: dict[str, str]
    refresh_token: str
    document: str
    entries: list[str]
    backup: str
    secrets: dict[str, str]
    certificates: dict[str, str]
    containers: dict[str, tuple[str, str]]


@dataclass
class Upgrade:
    """What the way from the older state to this one was like."""

    refused: Run
    checked: Run
    after_the_check: dict[str, tuple[str, str]]
    deployed: Run
    client: SteadyClient


def sign_in(deployed: Host, password: dict[str, str]) -> tuple[dict[str, str], str]:
    """A session's headers, and the token that it is renewed with."""
    status, tokens = deployed.ask("/api/auth/login", "POST", password)
    assert status == 200, tokens
    return {"Authorization": f"Bearer {tokens['access_token']}"}, tokens["refresh_token"]


def entries_of(deployed: Host, document: str, session: dict[str, str]) -> list[str]:
    """All entries of a document, page by page."""
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        status, page = deployed.ask(f"/api/v1/documents/{document}?limit=1000&after={after}", headers=session)
        assert status == 200, page
        found += [entry["content"] for entry in page["entries"]]
        after = page["next_entry"]
    return found


@pytest.fixture(scope="module")
def older(deployed: Host, checkout: Path, older_images: Path) -> Older:
    """The older state, deployed with its own playbooks, somebody's work in it, and a backup of that."""
    succeeded(play("deploy", checkout=checkout, images=str(older_images)))
    left = Path(SETTINGS["auth_first_user"]["show_in"]).read_text(encoding="utf-8")
    words = dict(line.split(maxsplit=1) for line in left.splitlines())
    password = {"username": words["user:"], "password": words["password:"]}
    session, refresh_token = sign_in(deployed, password)
    status, document = deployed.ask("/api/v1/documents", "POST", {"title": "Of the older state"}, session)
    assert status == 201, document
    entries = [f"older {number}" for number in range(20)]
    for entry in entries:
        assert deployed.ask(f"/api/v1/documents/{document['id']}/entries", "POST", {"content": entry}, session)[0] == 201
    succeeded(play("backup", checkout=checkout))
    (backup,) = deployed.must(f"ls {ROOT}/backups").split()
    return Older(
        deployed.authority,
        password,
        refresh_token,
        document["id"],
        entries,
        backup,
        files(deployed, "secrets"),
        files(deployed, "tls"),
        deployed.containers(),
    )


@pytest.fixture(scope="module")
def upgrade(deployed: Host, older: Older) -> Upgrade:
    """This state deployed over the older one, checked first, while a client from before goes on working."""
    refused = play("check")
    checked = play("deploy", *NOW, "--check", "--diff")
    after_the_check = deployed.containers()
    # Access tokens last 15 minutes, so this one is made as late as it can be.
    session, _ = sign_in(deployed, older.password)
    now = ["before the deploy"]
    client = SteadyClient(over_tls(deployed.address, PORT, DOMAIN, older.authority), session, older.document, lambda: now[-1])
    with client.running():
        run = play("deploy", *NOW, begun=now.append)
        now.append("after the deploy")
        enough, deadline = len(client.acknowledged) + 20, time.monotonic() + 60
        while len(client.acknowledged) < enough and time.monotonic() < deadline:
            time.sleep(1)
    return Upgrade(refused, checked, after_the_check, run, client)


def test_the_inventory_has_all_that_the_older_example_offers(checkout: Path) -> None:
    example = (checkout / "inventories/example/group_vars/seawall.yml").read_text(encoding="utf-8")
    offered = set(re.findall(r"^(?:# )?([a-z_]+):", example, re.MULTILINE))
    assert len(offered) > 10
    # It needs a certificate from elsewhere; tests/stack has one.
    assert offered - set(SETTINGS) == {"tls_provided"}


def test_what_the_older_inventory_lacks_is_named(upgrade: Upgrade) -> None:
    assert upgrade.refused.code != 0
    said = " ".join(upgrade.refused.output.split())
    assert [
        f"{name} lacks {', '.join(keys)}" for name, keys in GAINED.items() if f"{name} lacks {', '.join(keys)}" not in said
    ] == []


def test_a_check_says_what_would_change_and_changes_nothing(older: Older, upgrade: Upgrade) -> None:
    succeeded(upgrade.checked)
    assert upgrade.checked.recap["changed"] > 0
    assert upgrade.after_the_check == older.containers


def test_the_deploy_succeeds(upgrade: Upgrade) -> None:
    succeeded(upgrade.deployed)
    assert upgrade.deployed.recap["changed"] > 0


def test_every_acknowledged_entry_is_stored_once_in_its_order(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    assert len(upgrade.client.acknowledged) > 100
    assert entries_of(deployed, older.document, upgrade.client.headers) == older.entries + upgrade.client.acknowledged


def test_requests_fail_only_while_what_all_need_is_made_anew(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    after = deployed.containers()
    anew = {name for name, container in older.containers.items() if after.get(name) != container}
    failed = upgrade.client.failures()
    print(len(upgrade.client.attempts), "requests,", len(failed), "failed:", failed)
    allowed = {task for task, services in RESTARTS.items() if services & anew}
    assert {attempt.during for attempt in failed} <= allowed
    assert {attempt.status for attempt in failed} <= {0, 502, 503, 504}
    (late,) = {attempt.during for attempt in upgrade.client.attempts[-20:]}
    assert late == "after the deploy"


def test_the_older_release_is_kept_stopped(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    """The very containers, for a rollback: made anew they would be of the new image."""
    succeeded(upgrade.deployed)
    released = {container for name, (container, _) in older.containers.items() if name.startswith(("api-", "auth-"))}
    assert len(released) == 2
    stopped = deployed.must("docker ps --all --quiet --no-trunc --filter status=exited").split()
    assert released <= set(stopped)


def test_what_people_hold_from_before_still_opens_the_door(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    succeeded(upgrade.deployed)
    assert deployed.ask("/api/v1/documents", headers=upgrade.client.headers)[0] == 200
    status, tokens = deployed.ask("/api/auth/refresh", "POST", {"refresh_token": older.refresh_token})
    assert status == 200, tokens
    assert deployed.ask("/api/v1/documents", headers={"Authorization": f"Bearer {tokens['access_token']}"})[0] == 200
    sign_in(deployed, older.password)


def test_secrets_and_certificates_are_the_same_files(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    succeeded(upgrade.deployed)
    now = files(deployed, "secrets")
    kept = {path: value for path, value in older.secrets.items() if Path(path).name not in DERIVED}
    assert len(kept) >= 5
    assert {path: now.get(path) for path in kept} == kept
    assert files(deployed, "tls") == older.certificates


def test_everything_is_of_this_state(deployed: Host, upgrade: Upgrade) -> None:
    succeeded(upgrade.deployed)
    wanted = set(re.findall(r"^SEAWALL_IMAGE_\w+=(\S+)$", deployed.must(f"cat {ROOT}/compose/.env"), re.MULTILINE))
    assert set(deployed.must("docker ps --format '{{.Image}}'").split()) <= wanted
    migrations = (path.read_text(encoding="utf-8") for path in (REPOSITORY / "app/migrations/versions").glob("*.py"))
    head = max(re.findall(r"^revision[^=]*= ['\"](.+)['\"]$", "\n".join(migrations), re.MULTILINE))
    assert query(deployed, "app", "SELECT version_num FROM app.alembic_version") == head
    templates = [path for kind in ("service", "timer") for path in REPOSITORY.glob(f"roles/*/templates/*.{kind}.j2")]
    # Where certificates come from an authority, and these do not.
    templates = [path for path in templates if not path.name.startswith("acme.")]
    assert units(deployed) == {f"seawall-{path.stem}" for path in templates}
    assert set(deployed.must("systemctl show --property=NeedDaemonReload --value 'seawall-*'").split()) == {"no"}
    assert deployed.root("systemctl --failed --no-legend") == ""


def test_a_second_run_changes_nothing(deployed: Host, upgrade: Upgrade) -> None:
    succeeded(upgrade.deployed)
    before = deployed.containers()
    again = succeeded(play("deploy", *NOW))
    assert again.recap["changed"] == 0, again.output[-5000:]
    assert deployed.containers() == before


def test_status_says_that_all_is_well(deployed: Host, upgrade: Upgrade) -> None:
    succeeded(upgrade.deployed)
    status = deployed.status_screen()
    for bad in ("unknown", "FAILED", "unhealthy", "none"):
        assert bad not in status, status
    # A migration makes one, too, and only the newest is shown.
    assert max(deployed.must(f"ls {ROOT}/backups").split()) in status


def test_a_reboot_brings_back_what_is_in_charge_and_not_what_was(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    """A first release is blue, so this is the other one."""
    succeeded(upgrade.deployed)
    before = set(deployed.containers())
    assert {"api-green", "auth-green"} < before
    subprocess.run(["docker", "restart", "--time", "120", deployed.instance], capture_output=True, check=True, timeout=300)
    deployed.console("timeout 240 sh -c 'until systemctl is-system-running --wait | grep running; do sleep 1; done'")
    assert deployed.unit("stack.service", "ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    assert set(deployed.containers()) == before
    assert deployed.root(f"readlink {ROOT}/upstream/current") == "green"
    sign_in(deployed, older.password)


def test_a_backup_from_before_can_be_brought_back(deployed: Host, older: Older, upgrade: Upgrade) -> None:
    """The new image finds the set whole, and the runbook's commands bring it into a database beside the live one."""
    succeeded(upgrade.deployed)
    runbook = (REPOSITORY / "docs/runbooks/backup.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", runbook, re.DOTALL)
    (listing,) = [block for block in blocks if "seawall-backup list" in block]
    (restore,) = [block for block in blocks if "pg_restore" in block]
    listed = json.loads(deployed.must(listing.strip()))
    assert older.backup in {found["set"] for found in listed if found["verified_at"]}
    newest = "newest=$(ls /opt/seawall/backups | tail -n 1)"
    assert newest in restore
    deployed.must(f"sh -euc {shlex.quote(restore.replace(newest, f'newest={older.backup}'))}")
    restored = query(deployed, "app_restored", "SELECT content FROM app.entries_document ORDER BY position")
    assert restored.splitlines() == older.entries
