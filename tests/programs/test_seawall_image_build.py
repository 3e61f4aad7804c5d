"""How an image is built: what it gets as a secret stands in no argument of the build, and so in no layer's history."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from module_run import module_run
from seawall_image_build import build_command


def test_secrets_are_files_of_the_builder_and_no_arguments_of_the_build() -> None:
    secrets = {"ca_bundle": "/etc/ssl/certs/all.crt", "pip_config": "/etc/pip.conf"}
    options = {"reference": "seawall/x:1", "target": "prod", "arguments": {"BASE": "seawall/base:2"}, "secrets": secrets}
    command = build_command("docker", options)
    assert [word for word in command if word.startswith("--secret=")] == [
        "--secret=id=ca_bundle,src=/etc/ssl/certs/all.crt",
        "--secret=id=pip_config,src=/etc/pip.conf",
    ]
    assert [word for word in command if word.startswith("--build-arg=")] == ["--build-arg=BASE=seawall/base:2"]
    assert command[-1] == "-"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a docker was asked that has the images in `there`, and builds what it is given unless `broken` says why not."""
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$1 $2" >>calls\ncase $1 in\nimage) grep -qsx "$3" there ;;\n'
        "buildx) cat >sent; [ ! -e broken ] || { cat broken >&2; exit 1; } ;;\nesac\n",
        encoding="utf-8",
    )
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "calls"


def build(*, check_mode: bool = False, context: bytes = b"a context") -> dict[str, Any]:
    arguments = {"reference": "seawall/x:1", "context": base64.b64encode(context).decode()}
    return module_run("seawall_image_build", check_mode=check_mode, arguments=arguments)


def test_what_is_missing_is_built_from_what_was_sent(calls: Path) -> None:
    assert build()["changed"]
    assert calls.read_text(encoding="utf-8").splitlines() == ["image inspect", "buildx build"]
    assert calls.with_name("sent").read_bytes() == b"a context"


def test_an_image_that_is_there_is_not_built(calls: Path) -> None:
    calls.with_name("there").write_text("seawall/x:1\n", encoding="utf-8")
    answer = build()
    assert (answer["rc"], answer["changed"]) == (0, False)
    assert calls.read_text(encoding="utf-8") == "image inspect\n"


def test_a_check_tells_and_builds_nothing(calls: Path) -> None:
    assert build(check_mode=True)["changed"]
    assert calls.read_text(encoding="utf-8") == "image inspect\n"


def test_a_build_that_fails_says_its_last_words(calls: Path) -> None:
    lines = "\n".join(f"line {number};" for number in range(100))
    calls.with_name("broken").write_text(lines, encoding="utf-8")
    answer = build()
    assert answer["failed"]
    assert "Building seawall/x:1 failed; nothing was tagged" in answer["msg"]
    assert answer["msg"].endswith("line 99;")
    assert "line 60;" not in answer["msg"]
