"""gunicorn's configuration: `gunicorn --config python:seawall_service.gunicorn_conf APPLICATION`.

The startup gate runs here, in the master, before a socket is bound: a refusal ends the program at once.
"""

import asyncio
import gc
import importlib
import os
import sys
import time
from itertools import count
from pathlib import Path

import psycopg
import structlog
from gunicorn.arbiter import Arbiter
from prometheus_client import multiprocess, values
from psycopg.rows import dict_row

from seawall_service.db.pool import connection_arguments
from seawall_service.db.revision import expected_revision
from seawall_service.db.roles import judge_role
from seawall_service.logging import configure_logging, foreign_logging
from seawall_service.settings import Settings
from seawall_service.startup_gate import Component, StartupRefused, exit_refused, load_settings
from seawall_service.startup_report import report_configuration
from seawall_service.worker import Worker

ROLE_CHECK_SECONDS = 4.0
ROLE_CHECK_CONNECT_SECONDS = 2
ROLE_CHECK_PAUSE_SECONDS = 0.5
KEEP_DIRECTORY_GROUP = -1

log = structlog.get_logger(__name__)


def component() -> Component:
    return "auth" if any("auth_asgi" in argument for argument in sys.argv) else "api"


async def judge_role_unless_late(settings: Settings) -> None:
    """A database that is late does not stop the start: the workers judge the role once it answers."""
    arguments = connection_arguments(settings) | {"connect_timeout": ROLE_CHECK_CONNECT_SECONDS}
    deadline = time.monotonic() + ROLE_CHECK_SECONDS
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(**arguments, row_factory=dict_row) as connection:
                await judge_role(connection, settings)
        except psycopg.OperationalError as error:
            if time.monotonic() >= deadline:
                log.warning("startup.database_late", reason=str(error))
                return
            await asyncio.sleep(ROLE_CHECK_PAUSE_SECONDS)
        else:
            return


def remove_old_counters(directory: Path) -> None:
    """Those of the previous life of this container would otherwise be added to the new ones."""
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)


try:
    settings = load_settings(component())
    # Here as well as in the workers, which can only end the service after it has begun to listen.
    expected_revision()
except StartupRefused as refused:
    exit_refused(refused)

# Before the fork, so that workers share what is loaded and start sooner. It makes no application: that is the worker's.
importlib.import_module("seawall_service.main")

configure_logging(settings.log_level, debug=settings.debug)
logconfig_dict = foreign_logging(settings.gunicorn_log_level, debug=settings.debug)

bind = [settings.bind]
# The directory's setgid bit gives a unix socket the group that may connect; without this gunicorn takes it away.
umask = 0o117
group = KEEP_DIRECTORY_GROUP
workers = settings.web_concurrency
worker_class = Worker
timeout = settings.gunicorn_timeout
graceful_timeout = settings.gunicorn_graceful_timeout
keepalive = settings.gunicorn_keepalive
loglevel = settings.gunicorn_log_level
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
preload_app = False

metrics_directory = settings.prometheus_multiproc_dir if settings.metrics_enabled else None


def on_starting(_: Arbiter) -> None:
    try:
        if settings.is_production:
            # Its loop and threads are gone when it returns, so the workers are forked from a single thread.
            asyncio.run(judge_role_unless_late(settings))
    except StartupRefused as refused:
        exit_refused(refused)
    report_configuration(settings, component())
    if metrics_directory is not None:
        remove_old_counters(metrics_directory)
    # A collection in a worker would otherwise write to most of what it shares, and so have it copied.
    gc.collect()
    gc.freeze()


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """A successor takes over the slot, and so the metric files, of the worker it replaces."""
    used = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(slot for slot in count() if slot not in used)


def post_fork(_: Arbiter, worker: Worker) -> None:
    # The socket has its group by now; a worker that starts would try to make -1 its own.
    worker.cfg.set("group", os.getegid())
    if metrics_directory is not None:
        values.ValueClass = values.MultiProcessValue(lambda: worker.slot)


def post_worker_init(_: Worker) -> None:
    """What has been loaded by now stays as long as the worker: its collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def child_exit(_: Arbiter, worker: Worker) -> None:
    """Its gauges go with it; its counters stay, for the successor to continue."""
    if metrics_directory is not None:
        multiprocess.mark_process_dead(worker.slot)
