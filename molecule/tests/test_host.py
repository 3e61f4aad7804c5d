"""What holds on every host, whatever its scenario: it serves, and a further run changes nothing."""

from __future__ import annotations

import json

from deployed import PROJECT, WORST_EXPOSURE, Host

# As the engine counts, in nanoseconds.
SECOND = 10**9


def test_the_way_of_a_stranger(deployed: Host) -> None:
    session = deployed.session()
    status, document = deployed.ask("/api/v1/documents", "POST", {"title": "First"}, session)
    assert status == 201, document
    path = f"/api/v1/documents/{document['id']}"
    assert deployed.ask(f"{path}/entries", "POST", {"content": "Hello"}, session)[0] == 201
    assert [entry["content"] for entry in deployed.ask(path, headers=session)[1]["entries"]] == ["Hello"]


def test_systemd_is_content(deployed: Host) -> None:
    assert deployed.root("systemctl --failed --no-legend") == ""
    assert deployed.root("systemctl is-enabled docker.service") == "enabled"


def test_the_unit_of_the_stack_is_shut_in(deployed: Host) -> None:
    assert deployed.exposure("stack.service") <= WORST_EXPOSURE


def test_what_runs_is_asked_seldom_for_its_health(deployed: Host) -> None:
    """And often while it starts, where the engine can do both."""
    newer = int(deployed.must("docker version --format '{{.Server.Version}}'").partition(".")[0]) >= 25
    wanted = (30, 1) if newer else (10, 0)
    for service in ("postgres", "cache", "edge"):
        told = json.loads(deployed.must(f"docker inspect --format '{{{{json .Config.Healthcheck}}}}' {PROJECT}-{service}-1"))
        assert (told["Interval"] // SECOND, told.get("StartInterval", 0) // SECOND) == wanted


def test_a_check_of_a_deployed_host_changes_nothing_and_shows_no_secret(deployed: Host) -> None:
    before = deployed.containers()
    run = deployed.playbook("deploy", "--check", "--diff", "-vvv")
    assert (run.code, run.recap["changed"]) == (0, 0), run.output[-3000:]
    secrets = deployed.secrets()
    assert len(secrets) >= 5
    assert [name for name, value in secrets.items() if value in run.output] == []
    assert deployed.containers() == before
