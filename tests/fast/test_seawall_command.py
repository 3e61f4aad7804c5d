"""./seawall says what it can do, and one clear sentence about what it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def seawall(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(checkout / "seawall"), *arguments], capture_output=True, text=True, check=False)


def test_without_a_word_it_lists_every_playbook_with_its_first_line() -> None:
    done = seawall(ROOT)
    assert done.returncode == 0
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        described = playbook.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"{playbook.stem:<10} {described}" in done.stdout


@pytest.mark.parametrize("verb", ["dance", "../deploy", "deploy.yml", "", "Deploy"])
def test_what_is_no_verb_is_refused(verb: str) -> None:
    done = seawall(ROOT, verb)
    assert done.returncode != 0
    assert "is no verb" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_lock_file_is_named(tmp_path: Path) -> None:
    shutil.copy(ROOT / "seawall", tmp_path)
    (tmp_path / "playbooks").mkdir()
    shutil.copy(ROOT / "playbooks/check.yml", tmp_path / "playbooks")
    done = seawall(tmp_path, "check", "--inventory=somewhere")
    assert done.returncode != 0
    assert "requirements.txt is missing" in done.stderr
    assert done.stderr.count("\n") == 1


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
