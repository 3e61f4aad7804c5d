"""How an image is built: what it gets as a secret stands in no argument of the build, and so in no layer's history."""

from __future__ import annotations

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
