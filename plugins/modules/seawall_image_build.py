"""Build images from contexts that travel in the module's arguments, so that no directory is left on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_image_build
short_description: Build images with BuildKit from contexts packed on the controller
description:
  - Builds nothing whose reference exists. The engine tags an image only when its build has ended, so an interrupted
    run leaves no tag.
  - All are built at once, since a build waits for a network or a disk as often as for a processor.
  - A context is streamed to the builder, so nothing is unpacked on the host and a killed run leaves nothing to clean up.
options:
  images:
    description: What to build.
    type: list
    elements: dict
    required: true
    suboptions:
      reference: {description: Name and tag of the image., type: str, required: true}
      context: {description: The context as a gzip-compressed tar in base64., type: str, required: true}
      target: {description: Stage of the Dockerfile; empty means the last one., type: str, default: ""}
  arguments: {description: Build arguments of all of them. They are visible in the images' history., type: dict, default: {}}
  secrets: {description: Identifier of each BuildKit secret and the file on the host that holds it., type: dict, default: {}}
"""

import base64
import binascii
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SHOWN_LINES = 30


def build_command(docker: str, image: dict[str, Any], arguments: dict[str, str], secrets: dict[str, str]) -> list[str]:
    """The command line; its context is standard input. Only the engine's own builder sees the base image."""
    command = [docker, "buildx", "build", "--builder=default", "--progress=plain", "--load", f"--tag={image['reference']}"]
    if image["target"]:
        command.append(f"--target={image['target']}")
    command += [f"--build-arg={name}={value}" for name, value in sorted(arguments.items())]
    command += [f"--secret=id={name},src={path}" for name, path in sorted(secrets.items())]
    return [*command, "-"]


def build(command: list[str], context: bytes) -> str:
    """Empty when it was built, else the end of what the builder said."""
    try:
        done = subprocess.run(command, input=context, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    except OSError as error:
        return f"{command[0]} could not be run: {error}"
    if done.returncode == 0:
        return ""
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-SHOWN_LINES:]) or f"nothing, but ended with {done.returncode}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "reference": {"type": "str", "required": True},
                    "context": {"type": "str", "required": True},
                    "target": {"type": "str", "default": ""},
                },
            },
            "arguments": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": False},
        },
        supports_check_mode=True,
    )
    docker: str = module.get_bin_path("docker", required=not module.check_mode)
    missing: list[dict[str, Any]] = [
        image
        for image in module.params["images"]
        if not docker or module.run_command([docker, "image", "inspect", image["reference"]])[0] != 0
    ]
    if module.check_mode or not missing:
        module.exit_json(changed=bool(missing), built=[image["reference"] for image in missing])
    contexts: list[bytes] = []
    for image in missing:
        try:
            contexts.append(base64.b64decode(image["context"], validate=True))
        except binascii.Error:
            module.fail_json(msg=f"The context of {image['reference']} is not base64: pass what the filter image_builds returns.")
    commands = [build_command(docker, image, module.params["arguments"], module.params["secrets"]) for image in missing]
    with ThreadPoolExecutor(len(missing)) as beside_each_other:
        said = list(beside_each_other.map(build, commands, contexts))
    failures = [
        f"Building {image['reference']} failed; nothing was tagged. The end of its log:\n{last_words}"
        for image, last_words in zip(missing, said, strict=True)
        if last_words
    ]
    if failures:
        module.fail_json(msg="\n".join(failures))
    module.exit_json(changed=True, built=[image["reference"] for image in missing])


if __name__ == "__main__":
    main()
