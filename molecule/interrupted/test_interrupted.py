"""Killed anywhere, again and again, on a bare host: nothing is broken by it, and the next run converges."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from contextlib import suppress

from deployed import COMMAND, ENVIRONMENT, PROJECT, REPOSITORY, ROOT, Host
from process_tree import end_with_descendants

# Random, and the same every time: the task in which a run is killed, and how many seconds after that has begun. One in each
# tenth of the way through a deploy, of which skipped tasks are a part. One that is over before its task comes fails the test.
CHANCE = random.Random("killed")
KILLS = [(5 + 11 * tenth + CHANCE.randrange(11), CHANCE.uniform(0, 2)) for tenth in range(10)]
# Before the power cut, which needs a host that has no engine.
ON_A_BARE_HOST = 2
# All that the first deploys have said while the secrets were made, told as much as Ansible can tell.
TALKATIVE = ["-vvv", "--diff"]
SAID: list[str] = []


# Ends once dpkg has begun with a package of the engine's and not finished it.
UNFINISHED = (
    "until dpkg-query --show --showformat='${db:Status-Status}\\n' docker.io containerd runc 2>/dev/null"
    " | grep -qxE 'half-installed|unpacked|half-configured'; do sleep 0.02; done"
)


def deploy_and_kill_in(task: int | str, seconds: float = 0) -> bool:
    """Start a deploy and kill it so long after its task of that number, or the first whose name begins so, has begun."""
    command = [*COMMAND, "playbooks/deploy.yml", *TALKATIVE]
    # Where skipped tasks are not shown, a task is told of when its first result is there.
    environment = ENVIRONMENT | {"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        begun = 0
        for line in run.stdout:
            SAID.append(line)
            begun += line.startswith("TASK [")
            if begun == task or (isinstance(task, str) and line.startswith(f"TASK [{task}")):
                time.sleep(seconds)
                end_with_descendants(run.pid)
                return True
        print(f"the run was over after {begun} tasks")
    return False


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=660).stdout.strip()


def reachable(deployed: Host) -> bool:
    """Whether SSH answers again after a start."""
    for _ in range(60):
        with suppress(RuntimeError, AssertionError):
            deployed.must("true")
            return True
        time.sleep(1)
    return False


def test_killed_on_a_bare_host_it_can_be_deployed_to_again(deployed: Host) -> None:
    """What follows does."""
    assert [deploy_and_kill_in(*kill) for kill in KILLS[:ON_A_BARE_HOST]] == [True] * ON_A_BARE_HOST
    assert deployed.root("command -v docker") == "", "there is an engine already, so the next test proves nothing"


def test_power_cut_while_packages_are_unpacked(deployed: Host) -> None:
    """The host goes down in the middle of dpkg's work; once it is up, the next deploy mends what is left."""
    instance = deployed.instance
    deploy = [*COMMAND, "playbooks/deploy.yml"]
    with subprocess.Popen(deploy, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        docker("exec", instance, "timeout", "600", "sh", "-c", UNFINISHED)
        docker("kill", instance)
        end_with_descendants(run.pid)
    docker("start", instance)
    assert reachable(deployed)
    assert deployed.root("dpkg --audit") != "", "dpkg had finished, so this proves nothing"

    assert deploy_and_kill_in("images : Name every image"), "the deploy did not get past the engine"
    assert deployed.root("dpkg --audit") == ""
    assert deployed.root("test -e /usr/sbin/policy-rc.d && echo left") == ""
    deployed.must("docker info")


def test_killed_anywhere_it_converges(deployed: Host) -> None:
    later = KILLS[ON_A_BARE_HOST:]
    assert [deploy_and_kill_in(*kill) for kill in later] == [True] * len(later)
    run = deployed.playbook("deploy", *TALKATIVE)
    assert run.code == 0, run.output[-3000:]
    secrets, said = deployed.secrets(), "".join([*SAID, run.output])
    assert len(secrets) >= 5
    assert [name for name, value in secrets.items() if value in said] == []
    assert deployed.first_user()[1] not in said
    status, document = deployed.ask("/api/v1/documents", "POST", {"title": "Still here"}, deployed.session())
    assert status == 201, document
    assert deployed.root("systemctl --failed --no-legend") == ""


def test_of_two_deploys_at_once_the_second_is_refused(deployed: Host) -> None:
    lock = f"/var/lib/seawall-{PROJECT}.lock"
    with subprocess.Popen(
        [*COMMAND, "playbooks/deploy.yml"], cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        try:
            deployed.console(f"timeout 120 sh -c 'until test -s {lock}; do sleep 0.2; done'")
            # It stands still, or it might be over too soon.
            first.send_signal(signal.SIGSTOP)
            for verb in (["deploy"], ["teardown", "-e", f"confirm={PROJECT}"]):
                second = deployed.playbook(*verb)
                assert "began a deploy on" in " ".join(second.output.split()), second.output[-3000:]
                assert (second.code == 0, second.recap["changed"]) == (False, 0)
        finally:
            end_with_descendants(first.pid)
    assert deployed.console(f"cat {lock}") != "", "a run that is killed gives nothing back"
    third = deployed.playbook("deploy")
    assert (third.code, third.recap["changed"]) == (0, 0), third.output[-3000:]
    assert deployed.console(f"ls {lock} || true") == ""


def traces(deployed: Host) -> dict[str, list[str]]:
    """All that an installation leaves on a host but its images, the engine and the baseline: by kind."""
    label = f"--filter label=com.docker.compose.project={PROJECT}"
    commands = {
        "containers": f"docker ps --all {label} --quiet",
        "volumes": f"docker volume ls {label} --quiet; docker volume ls --filter name={PROJECT}_ --quiet",
        "networks": f"docker network ls {label} --quiet",
        "units": f"systemctl list-units --all --plain --no-legend '{PROJECT}-*' | grep -v {PROJECT}-firewall",
        "unit files": f"find /etc/systemd/system /run/systemd -name '{PROJECT}-*' ! -name '{PROJECT}-firewall.service'",
        "times of timers": f"find /var/lib/systemd/timers -name 'stamp-{PROJECT}-*'",
        "failed units": "systemctl --failed --plain --no-legend",
        "directories": f"find {ROOT} -maxdepth 1",
        "processes": "pgrep --list-name 'postgres|nginx|gunicorn|valkey'",
    }
    return {kind: deployed.console(f"{command} || true").splitlines() for kind, command in commands.items()}


def test_a_teardown_keeps_data_or_leaves_nothing(deployed: Host) -> None:
    """Last: there is nothing left to ask afterwards."""
    # It waits for every container's health, which a busy machine may have lost for a while.
    deployed.must(f"timeout 300 sh -c 'until systemctl start {PROJECT}-stack.service; do sleep 5; done'")
    assert deployed.ask("/api/v1/documents", "POST", {"title": "Kept"}, deployed.session())[0] == 201
    assert all(found for kind, found in traces(deployed).items() if kind != "failed units")

    assert deployed.playbook("teardown", "-e", "confirm=something-else").code != 0
    assert deployed.unit("stack.service", "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}

    # A backup that has failed is no trace that may stay.
    deployed.must(f"chown 0:0 {ROOT}/backups")
    deployed.root(f"systemctl start {PROJECT}-backup.service")
    assert f"{PROJECT}-backup.service" in deployed.root("systemctl --failed --no-legend")
    deployed.must(f"chown 10103:10103 {ROOT}/backups")
    kept = deployed.playbook("teardown", "-e", f"confirm={PROJECT}")
    assert kept.code == 0, kept.output[-3000:]
    left = traces(deployed)
    assert [kind for kind, found in left.items() if found] == ["volumes", "directories"]
    assert f"{PROJECT}_pgdata" in left["volumes"]

    back = deployed.playbook("deploy")
    assert back.code == 0, back.output[-3000:]
    documents = deployed.ask("/api/v1/documents", headers=deployed.session())
    assert documents[0] == 200
    assert "Kept" in str(documents[1])

    for _ in range(2):
        gone = deployed.playbook("teardown", "-e", f"confirm={PROJECT}", "-e", "delete_data=true")
        assert gone.code == 0, gone.output[-3000:]
        assert [kind for kind, found in traces(deployed).items() if found] == []
    assert gone.recap["changed"] == 0
    # Others may use the engine, and the baseline is the host's.
    assert deployed.console("systemctl is-active docker.service ssh.service seawall-firewall.service").split() == ["active"] * 3
