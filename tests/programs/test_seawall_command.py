"""./seawall says what it can do, and one clear sentence about what it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from check_run import PROGRAMS, check_hosts

ROOT = Path(__file__).resolve().parents[2]


def seawall(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(checkout / "seawall"), *arguments], capture_output=True, text=True, check=False)


def test_without_a_word_it_lists_every_playbook_with_its_first_line() -> None:
    done = seawall(ROOT)
    assert done.returncode == 0
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        described = playbook.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"{playbook.stem:<11} {described}" in done.stdout
    assert "init        Write the inventory of a remote host" in done.stdout


@pytest.mark.parametrize("verb", ["dance", "../deploy", "deploy.yml", "", "Deploy"])
def test_what_is_no_verb_is_refused(verb: str) -> None:
    done = seawall(ROOT, verb)
    assert done.returncode != 0
    assert "is no verb" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--check"], ["On"], ["on off"], ["-i", "on"]])
def test_maintenance_is_on_or_off(words: list[str]) -> None:
    done = seawall(ROOT, "maintenance", *words)
    assert done.returncode != 0
    assert "type: ./seawall maintenance on" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_lock_file_is_named(tmp_path: Path) -> None:
    shutil.copy(ROOT / "seawall", tmp_path)
    (tmp_path / "playbooks").mkdir()
    shutil.copy(ROOT / "playbooks/check.yml", tmp_path / "playbooks")
    done = seawall(tmp_path, "check", "--inventory=somewhere,")
    assert done.returncode != 0
    assert "requirements.txt is missing" in done.stderr
    assert done.stderr.count("\n") == 1


def wheel(directory: Path) -> str:
    """A package with nothing in it, where pip may find it: its SHA-256."""
    file, about = directory / "nothing-1.0-py3-none-any.whl", "nothing-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        parts.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        parts.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("nothing==1.0 --hash=sha256:{found}", ""),
        ("nothing==1.0 --hash=sha256:{other}", "DO NOT MATCH THE HASHES"),
        ("nothing==1.0", "Hashes are required"),
    ],
    ids=["as locked", "another", "not locked"],
)
def test_only_packages_that_are_locked_by_hash_are_installed(tmp_path: Path, lock: str, words: str) -> None:
    shutil.copy(ROOT / "seawall", tmp_path)
    (tmp_path / "playbooks").mkdir()
    shutil.copy(ROOT / "playbooks/check.yml", tmp_path / "playbooks")
    (tmp_path / "requirements.txt").write_text(lock.format(found=wheel(tmp_path), other="0" * 64), encoding="ascii")
    only_here = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    command = [str(tmp_path / "seawall"), "check", "--inventory=somewhere,"]
    done = subprocess.run(command, env=only_here, capture_output=True, text=True, check=False)
    installed = list(tmp_path.glob(".venv/lib/*/site-packages/nothing-1.0.dist-info"))
    assert (len(installed), (tmp_path / ".venv").exists()) == ((0, False) if words else (1, True)), done.stderr
    assert words in done.stderr
    assert ("could not install the packages in requirements.txt" in done.stderr) == bool(words)


# Stands in for Python, whose venv and pip take half a minute: an environment's python waits for a file before it installs.
PYTHON = """#!/bin/sh
case $* in
*"-m venv "*)
    for path; do :; done
    case $* in *--clear*) rm -rf "$path" ;; esac
    mkdir -p "$path/bin"; cp "$0" "$path/bin/python" ;;
*"-m pip install"*)
    echo begun >>"$BEGUN"
    until [ -e "$GO" ]; do sleep 0.05; done
    printf '#!%s/python\n' "$(readlink -f "${0%/*}")" >"${0%/*}/ansible-playbook"
    chmod +x "${0%/*}/ansible-playbook" ;;
*ansible-playbook*) readlink -f "$0"; if [ -n "$HOLD" ]; then cat "$HOLD" >&2; fi; readlink -f "$0" ;;
esac
"""


def waited_for(path: Path, lines: int) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or len(path.read_text(encoding="utf-8").splitlines()) < lines:
        assert time.monotonic() < deadline, f"{path} did not come to {lines} lines"
        time.sleep(0.05)


def test_a_new_environment_leaves_a_running_command_its_own(tmp_path: Path) -> None:
    """Two commands find another lock file while a third is running, and both make an environment."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    for directory in (checkout / "playbooks", tools):
        directory.mkdir(parents=True)
    shutil.copy(ROOT / "seawall", checkout)
    shutil.copy(ROOT / "playbooks/check.yml", checkout / "playbooks")
    (tools / "python3").write_text(PYTHON, encoding="utf-8")
    (tools / "python3").chmod(0o755)
    files = {name: tmp_path / name.lower() for name in ("BEGUN", "GO")}
    environment = (
        os.environ | {name: str(path) for name, path in files.items()} | {"SEAWALL_PYTHON": str(tools / "python3"), "HOLD": ""}
    )

    def command(**variables: str) -> subprocess.Popen[str]:
        words, variables = ["./seawall", "check", "--inventory=x,"], environment | variables
        return subprocess.Popen(words, cwd=checkout, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    lock = checkout / "requirements.txt"
    lock.write_text("one\n", encoding="utf-8")
    files["GO"].touch()
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    with command(HOLD=str(hold)) as running:
        assert running.stdout
        first = running.stdout.readline()
        files["GO"].unlink()
        lock.write_text("two\n", encoding="utf-8")
        try:
            with command() as one, command() as other:
                try:
                    waited_for(files["BEGUN"], 3)
                    whole = (checkout / ".venv/bin/ansible-playbook").exists()
                finally:
                    files["GO"].touch()
                for each in (one, other):
                    each.communicate(timeout=60)
            assert (one.returncode, other.returncode) == (0, 0)
            assert whole, "until the new one is made, the old one is in its place"
        finally:
            # The running command goes on.
            os.close(os.open(hold, os.O_RDWR))
        assert running.stdout.read() == first, "its environment was taken away"
    assert running.returncode == 0
    made = files["BEGUN"].read_text(encoding="utf-8")
    with command() as last:
        assert last.stdout
        assert Path(last.stdout.readline().strip()).is_relative_to((checkout / ".venv").resolve())
    assert files["BEGUN"].read_text(encoding="utf-8") == made, "the lock file has not changed again"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_first_password_is_shown_on_a_terminal_only_and_once(tmp_path: Path, terminal: bool) -> None:
    """The part of the script that shows it, run as it stands."""
    text = (ROOT / "seawall").read_text(encoding="utf-8")
    function = text[text.index("show_first_sign_in() {") :]
    function = function[: function.index("\n}\n") + 3]
    (tmp_path / ".seawall").mkdir()
    file = tmp_path / ".seawall/first-sign-in-somewhere"
    file.write_text("password: not-a-real-one\n", encoding="utf-8")
    (tmp_path / "show").write_text(f"set -eu\n{function}\nshow_first_sign_in\n", encoding="utf-8")
    command = ["script", "-qec", "sh show", "/dev/null"] if terminal else ["sh", "show"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert ("not-a-real-one" in done.stdout) == terminal
    assert file.exists() != terminal
    assert "first-sign-in-somewhere" in done.stdout or terminal


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What init needs of a checkout: neither an environment nor a playbook."""
    shutil.copy(ROOT / "seawall", tmp_path)
    shutil.copytree(ROOT / "inventories/example", tmp_path / "inventories/example")
    return tmp_path


def init(checkout: Path, name: str = "ours", **options: str) -> subprocess.CompletedProcess[str]:
    given = {"host": "203.0.113.10", "domain": "api.ours.example"} | options
    return seawall(checkout, "init", name, *(word for option, value in given.items() for word in (f"--{option}", value)))


def settings_of(inventory: Path) -> dict[str, dict[str, object]]:
    """Every host's settings, as Ansible reads them."""
    command = [str(PROGRAMS / "ansible-inventory"), "--inventory", str(inventory), "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, object]] = json.loads(done.stdout)["_meta"]["hostvars"]
    return found


def test_init_writes_an_inventory_that_the_check_accepts(checkout: Path) -> None:
    done = init(checkout, user="deploy")
    assert done.returncode == 0, done.stderr
    assert "./seawall check -i inventories/ours\n  ./seawall deploy -i inventories/ours\n" in done.stdout
    inventory = checkout / "inventories/ours"
    (host,) = settings_of(inventory).values()
    assert host["ansible_host"] == "203.0.113.10"
    assert host["ansible_user"] == "deploy"
    assert host["seawall_domain"] == "api.ours.example"
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    (verdict,) = check_hosts(inventory, "--extra-vars", json.dumps(here)).values()
    # Whether this machine is a fit host is not the question here.
    here_only = {"Check the host", "Check the settings against the host"}
    assert {task for task, _ in verdict.refused_by} <= here_only, verdict.messages
    assert verdict.last_task in here_only


def test_init_changes_three_values_and_keeps_every_comment(checkout: Path) -> None:
    init(checkout, user="deploy")
    for path in ("hosts.yml", "group_vars/seawall.yml"):
        example = (checkout / "inventories/example" / path).read_text(encoding="utf-8")
        expected = example.replace("inventories/NAME", "inventories/ours").replace("api.example.com", "api.ours.example")
        expected = expected.replace("# ansible_host: 203.0.113.10", 'ansible_host: "203.0.113.10"')
        expected = expected.replace("ansible_user: admin", 'ansible_user: "deploy"')
        assert (checkout / "inventories/ours" / path).read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("address", ["::1", "fe80::", "1:2:3:4:5:6:7:8", "2001:db8:0:0:0:0:2:1", "1:2:3:4:5:6:7::", "::"])
def test_init_takes_every_form_of_an_address(checkout: Path, address: str) -> None:
    assert init(checkout, host=address).returncode == 0


def test_without_a_user_ssh_decides(checkout: Path) -> None:
    assert init(checkout, host="2001:db8::1").returncode == 0
    (host,) = settings_of(checkout / "inventories/ours").values()
    assert host["ansible_host"] == "2001:db8::1"
    assert "ansible_user" not in host


def test_init_leaves_an_inventory_that_is_there_alone(checkout: Path) -> None:
    init(checkout)
    before = (checkout / "inventories/ours/hosts.yml").read_bytes()
    done = init(checkout, host="203.0.113.99")
    assert done.returncode != 0
    assert "inventories/ours exists" in done.stderr
    assert (checkout / "inventories/ours/hosts.yml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "type: ./seawall init NAME --host ADDRESS --domain NAME"),
        (["ours"], "needs a name, a host and a domain; type: ./seawall init"),
        (["ours", "--host"], "--host needs a value; type:"),
        (["ours", "theirs", "--host", "a", "--domain", "a.example"], "'theirs' is a second; type:"),
        (["ours", "--hots", "a"], "'--hots' is no option of init; type:"),
        (["../ours", "--host", "a", "--domain", "a.example"], "use letters, digits"),
        (["our s", "--host", "a", "--domain", "a.example"], "use letters, digits"),
        (["a\nb", "--host", "a", "--domain", "a.example"], "use letters, digits"),
        (["ours", "--host", "203.0.113.300", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "203.0.113", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "203.0.113.7.", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", ":::::", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "1::2::3", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "1:2:3:4::5:6:7:8:9", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "12345::1", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "1:2:3", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "web 1", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "web/1&", "--domain", "a.example"], "--host 203.0.113.10"),
        (["ours", "--host", "a", "--domain", "203.0.113.10"], "--domain api.example.com"),
        (["ours", "--host", "a", "--domain", "example"], "--domain api.example.com"),
        (["ours", "--host", "a", "--domain", "API.example.com"], "--domain api.example.com"),
        (["ours", "--host", "a", "--domain", "a.example\nb.example"], "--domain api.example.com"),
        (["ours", "--host", "a", "--domain", f"{'a.' * 130}example"], "--domain api.example.com"),
        (["ours", "--host", "a", "--domain", "a.example", "--user", "a b"], "--user admin"),
        (["ours", "--host", "a", "--domain", "a.example", "--user", '"'], "--user admin"),
    ],
)
def test_init_says_what_to_type_instead(checkout: Path, arguments: list[str], words: str) -> None:
    done = seawall(checkout, "init", *arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert [path.name for path in (checkout / "inventories").iterdir()] == ["example"]


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["-i", "inventories/absent"], "the inventory inventories/absent"),
        (["-iinventories/absent"], "the inventory inventories/absent"),
        (["--inventory=inventories/absent"], "the inventory inventories/absent"),
        (["-e", "@absent.yml"], "the file of settings absent.yml"),
        (["--extra-vars=@absent.yml"], "the file of settings absent.yml"),
        (["-e", "@here.yml", "-e@absent.yml"], "the file of settings absent.yml"),
    ],
)
def test_a_file_that_is_named_and_missing_is_told_in_one_sentence(tmp_path: Path, arguments: list[str], missing: str) -> None:
    shutil.copy(ROOT / "seawall", tmp_path)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/check.yml").touch()
    (tmp_path / "here.yml").touch()
    done = seawall(tmp_path, "check", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"seawall: {missing} is missing: ")
    assert done.stderr.count("\n") == 1


# What the script needs of a machine, so that a test can leave the rest out.
NEEDED = ["basename", "cat", "cut", "dirname", "grep", "readlink", "sed", "sha256sum"]


def machine(tmp_path: Path, *, user: int = 0, **programs: str) -> Path:
    """A checkout with one verb, beside the only programs that its machine has; `id` says who it is."""
    tools = tmp_path / "tools"
    (tmp_path / "playbooks").mkdir()
    tools.mkdir()
    shutil.copy(ROOT / "seawall", tmp_path)
    (tmp_path / "playbooks/dance.yml").write_text("# Dance till dawn.\n# Not this.\n", encoding="utf-8")
    for name in NEEDED:
        (tools / name).symlink_to(shutil.which(name) or "")
    for name, text in {"id": f"echo {user}", **{name.replace("_", "-"): text for name, text in programs.items()}}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    return tmp_path


def typed(checkout: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(checkout / "seawall"), *words]
    return subprocess.run(
        command, env={"PATH": str(checkout / "tools"), **environment}, capture_output=True, text=True, check=False
    )


def test_the_list_is_read_from_the_playbooks(tmp_path: Path) -> None:
    done = typed(machine(tmp_path))
    listed = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed[0] == ["dance", "Dance till dawn."]
    assert [verb for verb, _ in listed] == ["dance", "init", "test"]


@pytest.mark.parametrize(
    ("sudo", "words"),
    [({}, "run as root, or install sudo"), ({"sudo": "exit 1"}, "sudo asks for a password: add -K")],
    ids=["no sudo", "a password"],
)
def test_who_is_not_root_here_is_told_what_to_do(tmp_path: Path, sudo: dict[str, str], words: str) -> None:
    checkout = machine(tmp_path, user=1000, **sudo)
    done = typed(checkout, "dance")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr
    # Another host, or a password to come, is another matter: the next thing that is missing is told.
    for option in ("-iother,", "-K"):
        assert "requirements.txt is missing" in typed(checkout, "dance", option).stderr


def test_root_and_who_becomes_it_go_on(tmp_path: Path) -> None:
    checkout = machine(tmp_path, user=1000, sudo='[ "$*" = "-n true" ]')
    assert "requirements.txt is missing" in typed(checkout, "dance").stderr


# As old as it is told to be.
OLD_PYTHON = f"""[ "$1" = -V ] && {{ echo Python 3.9.2; exit; }}
exec {sys.executable} -c 'import sys; sys.version_info = (3, 9, 2, "final", 0); exec(sys.argv[1])' "$2" """


@pytest.mark.parametrize(
    ("user", "programs", "words"),
    [
        (0, {"python3": OLD_PYTHON}, "needs Python 3.11 or newer on this machine, and python3 is 3.9.2"),
        (0, {}, "there is no apt-get to install it with"),
        (1000, {"apt_get": ""}, "must install a package and needs root for it"),
        (0, {"apt_get": "[ $1 != update ]", "env": 'exec "$@"'}, "apt could not read its sources"),
        (0, {"apt_get": "[ $1 = update ]", "env": 'shift; exec "$@"'}, "apt could not install python3-venv"),
    ],
    ids=["too old", "no apt", "no root", "no sources", "no package"],
)
def test_a_machine_without_the_right_python_is_told(tmp_path: Path, user: int, programs: dict[str, str], words: str) -> None:
    checkout = machine(tmp_path, user=user, **programs)
    (checkout / "requirements.txt").touch()
    done = typed(checkout, "dance", "--inventory=x,")
    assert done.returncode == 1
    assert words in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("text", ["", OLD_PYTHON, "exit 1"], ids=["not there", "too old", "no venv"])
def test_a_python_that_is_named_and_does_not_do_is_told_and_nothing_is_installed(tmp_path: Path, text: str) -> None:
    checkout = machine(tmp_path, user=0, apt_get=f"touch {tmp_path}/installed", **({"mine": text} if text else {}))
    (checkout / "requirements.txt").touch()
    done = typed(checkout, "dance", "--inventory=x,", SEAWALL_PYTHON=str(tmp_path / "tools/mine"))
    assert done.returncode == 1
    assert f"SEAWALL_PYTHON is {tmp_path}/tools/mine, which is no Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "installed").exists()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose environments are made by the stand-in, which goes on at once."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    for directory in (checkout / "playbooks", tools):
        directory.mkdir(parents=True)
    shutil.copy(ROOT / "seawall", checkout)
    shutil.copy(ROOT / "playbooks/check.yml", checkout / "playbooks")
    (checkout / "requirements.txt").write_text("one\n", encoding="utf-8")
    (tools / "python3").write_text(PYTHON, encoding="utf-8")
    (tools / "python3").chmod(0o755)
    (tmp_path / "go").touch()
    given = {"BEGUN": str(tmp_path / "begun"), "GO": str(tmp_path / "go"), "HOLD": "", "SEAWALL_PYTHON": str(tools / "python3")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return checkout


def check(checkout: Path) -> Path:
    """The environment that a verb was run in."""
    done = seawall(checkout, "check", "--inventory=x,")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[0]).parents[1]


def test_an_installation_that_is_killed_leaves_no_environment(made: Path, tmp_path: Path) -> None:
    (tmp_path / "go").unlink()
    command = ["./seawall", "check", "--inventory=x,"]
    with subprocess.Popen(command, cwd=made, start_new_session=True, stderr=subprocess.DEVNULL) as killed:
        try:
            waited_for(tmp_path / "begun", 1)
        finally:
            os.killpg(killed.pid, signal.SIGKILL)
    assert not (made / ".venv").exists()
    (tmp_path / "go").touch()
    assert check(made) == (made / ".venv").resolve()
    assert len((tmp_path / "begun").read_text(encoding="utf-8").splitlines()) == 2


def test_packages_that_cannot_be_installed_are_told_and_leave_nothing(made: Path, tmp_path: Path) -> None:
    python = tmp_path / "tools/python3"
    python.write_text(PYTHON.replace("echo begun", "exit 1; echo begun"), encoding="utf-8")
    done = seawall(made, "check", "--inventory=x,")
    assert done.returncode == 1
    assert "could not install the packages in requirements.txt" in done.stderr
    assert not (made / ".venv").exists()
    assert list((made / ".cache").iterdir()) == []


@pytest.mark.parametrize("harm", ["broken", "older"])
def test_an_environment_of_no_use_is_made_anew(made: Path, harm: str) -> None:
    if harm == "older":
        # Before it was a link.
        (made / ".venv/bin").mkdir(parents=True)
    else:
        before = check(made)
        (before / "bin/python").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    now = check(made)
    assert (made / ".venv").is_symlink()
    assert now == (made / ".venv").resolve()
    assert harm == "older" or now != before


def test_environments_go_when_nobody_uses_them(made: Path, tmp_path: Path) -> None:
    used = check(made)
    # Of somebody who sees the checkout under another path, one of now and one of long ago.
    fresh, stale = (made / f".cache/venv-2147483646-{name}" for name in ("fresh", "stale"))
    for other in (fresh, stale):
        other.mkdir()
        (other / ".installed").write_text(f"requirements.txt x -/elsewhere/.cache/{other.name};", encoding="utf-8")
    os.utime(stale, (1, 1))
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    environment = os.environ | {"HOLD": str(hold)}
    command = ["./seawall", "check", "--inventory=x,"]
    with subprocess.Popen(command, cwd=made, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout
        running.stdout.readline()
        (made / "requirements.txt").write_text("two\n", encoding="utf-8")
        try:
            now = check(made)
            assert {path.name for path in (made / ".cache").iterdir()} == {used.name, now.name, fresh.name}
        finally:
            os.close(os.open(hold, os.O_RDWR))
    (made / "requirements.txt").write_text("three\n", encoding="utf-8")
    now = check(made)
    assert {path.name for path in (made / ".cache").iterdir()} == {now.name, fresh.name}
