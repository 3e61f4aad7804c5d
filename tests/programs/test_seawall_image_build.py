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
    command = build_command("docker", {"reference": "seawall/x:1", "target": "prod"}, {"BASE": "seawall/base:2"}, secrets)
    assert [word for word in command if word.startswith("--secret=")] == [
        "--secret=id=ca_bundle,src=/etc/ssl/certs/all.crt",
        "--secret=id=pip_config,src=/etc/pip.conf",
    ]
    assert [word for word in command if word.startswith("--build-arg=")] == ["--build-arg=BASE=seawall/base:2"]
    assert command[-1] == "-"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a docker was asked that has the images in `there`, and builds what it is given unless `broken-TAG` says why not."""
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$1 $2" >>calls\ntag=${{6##*:}}\ncase $1 in\nimage) grep -qsx "$3" there ;;\n'
        'buildx) cat >"sent-$tag"; [ ! -e "broken-$tag" ] || { cat "broken-$tag" >&2; exit 1; } ;;\nesac\n',
        encoding="utf-8",
    )
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "calls"


def build(*tags: str, check_mode: bool = False) -> dict[str, Any]:
    images = [
        {"reference": f"seawall/x:{tag}", "context": base64.b64encode(f"context of {tag}".encode()).decode()} for tag in tags
    ]
    return module_run("seawall_image_build", check_mode=check_mode, arguments={"images": images})


def asked(calls: Path) -> list[str]:
    return calls.read_text(encoding="utf-8").splitlines()


def test_what_is_missing_is_built_from_what_was_sent(calls: Path) -> None:
    assert build("1", "2")["changed"]
    assert asked(calls) == ["image inspect"] * 2 + ["buildx build"] * 2
    for tag in ("1", "2"):
        assert calls.with_name(f"sent-{tag}").read_text(encoding="utf-8") == f"context of {tag}"


def test_an_image_that_is_there_is_not_built(calls: Path) -> None:
    calls.with_name("there").write_text("seawall/x:1\n", encoding="utf-8")
    answer = build("1")
    assert (answer["rc"], answer["changed"]) == (0, False)
    assert asked(calls) == ["image inspect"]
    assert build("1", "2")["built"] == ["seawall/x:2"]
    assert not calls.with_name("sent-1").exists()


def test_a_check_tells_and_builds_nothing(calls: Path) -> None:
    assert build("1", "2", check_mode=True)["changed"]
    assert asked(calls) == ["image inspect"] * 2


def test_a_build_that_fails_says_its_last_words_and_the_other_is_built(calls: Path) -> None:
    lines = "\n".join(f"line {number};" for number in range(100))
    calls.with_name("broken-1").write_text(lines, encoding="utf-8")
    answer = build("1", "2")
    assert answer["failed"]
    assert "Building seawall/x:1 failed; nothing was tagged" in answer["msg"]
    assert answer["msg"].endswith("line 99;")
    assert "line 60;" not in answer["msg"]
    assert "seawall/x:2" not in answer["msg"]
    assert calls.with_name("sent-2").exists()


def test_they_are_built_beside_each_other(calls: Path) -> None:
    # Each waits until both have begun.
    script = calls.with_name("docker")
    waits = (
        "buildx) touch begun-$tag; for _ in $(seq 100); do [ -e begun-1 ] && [ -e begun-2 ] && exit 0; sleep 0.1; done; exit 1; "
    )
    script.write_text(script.read_text(encoding="utf-8").replace("buildx) ", waits), encoding="utf-8")
    assert build("1", "2")["changed"]


def test_a_context_that_is_none_is_refused(calls: Path) -> None:
    answer = module_run("seawall_image_build", arguments={"images": [{"reference": "seawall/x:1", "context": "%"}]})
    assert "The context of seawall/x:1 is not base64" in answer["msg"]
    assert asked(calls) == ["image inspect"]
