"""Build one image from a context that travels in the module's arguments, so that no directory is left on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_image_build
short_description: Build an image with BuildKit from a context packed on the controller
description:
  - Builds nothing when the reference exists. The engine tags an image only when its build has ended, so an interrupted
    run leaves no tag.
  - The context is streamed to the builder, so nothing is unpacked on the host and a killed run leaves nothing to clean up.
options:
  reference: {description: Name and tag of the image., type: str, required: true}
  context: {description: The context as a gzip-compressed tar in base64., type: str, required: true}
  target: {description: Stage of the Dockerfile; empty means the last one., type: str, default: ""}
  arguments: {description: Build arguments. They are visible in the image's history., type: dict, default: {}}
  secrets: {description: Identifier of each BuildKit secret and the file on the host that holds it., type: dict, default: {}}
"""

import base64
import binascii
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SHOWN_LINES = 30


def build_command(docker: str, options: dict[str, Any]) -> list[str]:
    """The command line; its context is standard input. Only the engine's own builder sees the base image."""
    command = [docker, "buildx", "build", "--builder=default", "--progress=plain", "--load", f"--tag={options['reference']}"]
    if options["target"]:
        command.append(f"--target={options['target']}")
    command += [f"--build-arg={name}={value}" for name, value in sorted(options["arguments"].items())]
    command += [f"--secret=id={name},src={path}" for name, path in sorted(options["secrets"].items())]
    return [*command, "-"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "reference": {"type": "str", "required": True},
            "context": {"type": "str", "required": True},
            "target": {"type": "str", "default": ""},
            "arguments": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": False},
        },
        supports_check_mode=True,
    )
    reference: str = module.params["reference"]
    docker: str = module.get_bin_path("docker", required=not module.check_mode)
    if docker and module.run_command([docker, "image", "inspect", reference])[0] == 0:
        module.exit_json(changed=False, reference=reference)
    if module.check_mode:
        module.exit_json(changed=True, reference=reference)
    try:
        context = base64.b64decode(module.params["context"], validate=True)
    except binascii.Error:
        module.fail_json(msg=f"The context of {reference} is not base64: pass what the filter image_context returns.")
    code, output, errors = module.run_command(build_command(docker, module.params), data=context, binary_data=True)
    if code != 0:
        tail = "\n".join((output + errors).strip().splitlines()[-SHOWN_LINES:])
        module.fail_json(msg=f"Building {reference} failed; nothing was tagged. The end of its log:\n{tail}")
    module.exit_json(changed=True, reference=reference)


if __name__ == "__main__":
    main()
