"""gunicorn's worker: uvicorn, with the grace period that upstream does not pass on."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

from seawall_service.malformed_requests import EnvelopeHttpProtocol, EnvelopeWebSocketProtocol
from seawall_service.settings import drain_seconds


class Worker(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": EnvelopeHttpProtocol,
        "ws": EnvelopeWebSocketProtocol,
        "lifespan": "on",
        "server_header": False,
        # Our own context middleware writes the access line and decides whom X-Forwarded-For is believed from.
        "access_log": False,
        "proxy_headers": False,
        "ws_max_size": 65_536,
    }
    slot: int = 0

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        # Shorter than gunicorn's own, so that the pool is closed before SIGKILL.
        self.config.timeout_graceful_shutdown = drain_seconds(self.cfg.graceful_timeout)
