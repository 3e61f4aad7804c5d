"""Ask over Unix sockets until each answer is the wanted one, in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_http_probe
short_description: Send GET requests over Unix sockets and wait for the wanted statuses
description:
  - Changes nothing. Each request is sent again until it is answered as wanted; the module fails with the last answer, or with
    what kept it from coming, once C(seconds) are over. Redirects are not followed.
options:
  requests:
    description: What is asked, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      socket: {description: Path of the Unix socket., type: path, required: true}
      url: {description: Its host is what the request names and the certificate must be for., type: str, required: true}
      status: {description: Statuses that are wanted., type: list, elements: int, default: [200]}
  seconds: {description: How long to go on asking; one answer is waited for 5 of them., type: int, default: 30}
  ca_path: {description: Who must have signed certificates; without it they are not looked at., type: path}
"""

import http.client
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

ANSWER_SECONDS = 5
PAUSE_SECONDS = 0.5
SHOWN_BYTES = 300


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, within TLS where a context is given."""

    def __init__(self, path: str, host: str, context: ssl.SSLContext | None) -> None:
        super().__init__(host, timeout=ANSWER_SECONDS)
        self._path = path
        self._context = context

    def connect(self) -> None:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(ANSWER_SECONDS)
        try:
            plain.connect(self._path)
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host) if self._context else plain
        except BaseException:
            plain.close()
            raise


def tls_context(ca_path: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_path)
    if not ca_path:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def ask(request: dict[str, Any], ca_path: str | None) -> str:
    """What is wrong with the answer; empty when it is one of the wanted."""
    url = urlsplit(request["url"])
    context = tls_context(ca_path) if url.scheme == "https" else None
    connection = SocketConnection(request["socket"], url.hostname or "", context)
    try:
        connection.request("GET", f"{url.path or '/'}{'?' if url.query else ''}{url.query}", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(SHOWN_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return f"{request['url']} is not answered at {request['socket']}: {error or type(error).__name__}"
    finally:
        connection.close()
    if answer.status in request["status"]:
        return ""
    return f"{request['url']} is answered with {answer.status} at {request['socket']}: {body.decode(errors='replace').strip()}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "requests": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "socket": {"type": "path", "required": True},
                    "url": {"type": "str", "required": True},
                    "status": {"type": "list", "elements": "int", "default": [200]},
                },
            },
            "seconds": {"type": "int", "default": 30},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + module.params["seconds"]
    for request in module.params["requests"]:
        while problem := ask(request, module.params["ca_path"]):
            if time.monotonic() + PAUSE_SECONDS > deadline:
                module.fail_json(msg=problem)
            time.sleep(PAUSE_SECONDS)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
