"""The connection of this process to Ray: a cluster that it was asked to join, else one of its own on this machine.

Every way in which Ray can be absent, stale, foreign, guarded or unable to start is an InputError of one line. What Ray itself
prints while it starts is kept back, and told where it started.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import ray
from ray._private.ray_logging import global_worker_stdstream_dispatcher as printed
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.job_config import JobConfig

from pipeline.distributed.connection.cluster_at import reachable
from pipeline.distributed.connection.kept_back import kept_back
from pipeline.distributed.connection.temporary_folder import require_temporary_folder
from pipeline.distributed.connection.watch import raylet_watched
from pipeline.errors import InputError
from pipeline.process.own_code import workers_path
from pipeline.process.share import usable_cpus

TOKEN = "RAY_AUTH_TOKEN"
MODE = "RAY_AUTH_MODE"
CHATTY = "ray._private.authentication.authentication_token_setup"
"""Ray's logger that says at every start that the cluster has a token."""
OWN = "local"
"""Ray's word for an address that is none: a cluster of one's own, whatever else is there."""
PRINTER, HEAD, DEATH = "ray_print_logs", "gcs_server", "A worker died or was killed"
"""Ray's name for what prints the lines of a cluster's processes in the driver; the process that complains where two of its calls
cross, as when an actor is ended that has ended; and how a raylet begins what a run says in its own words. Ray's logs have both."""
NO_IDLE_WORKERS = {"RAY_prestart_worker_first_driver": "0", "RAY_enable_worker_prestart": "0"}
"""Ray starts a process for every CPU before anybody asks for one. An actor with an environment of its own takes none of them."""


class OwnCode(JobConfig):
    """A job whose workers look for code where the driver's own packages are. Ray would add the driver's working folder, and that of
    its script: whatever lies there, input or output, would be importable."""

    @property
    def _py_driver_sys_path(self) -> list[str]:
        return workers_path()

    @_py_driver_sys_path.setter
    def _py_driver_sys_path(self, paths: list[str]) -> None:
        """What Ray would set is left out."""


@contextmanager
def connected(address: str | None, cpus: int | None = None) -> Iterator[bool]:
    """A cluster while the block lasts: that which this process is connected to already, else the one at `address` (or RAY_ADDRESS),
    else one that is started on this machine with `cpus` CPUs (default: as many as this process may use). It is left as it was.
    Yields whether it was started: then nobody else is there. Raises InputError where there is none to be had."""
    if ray.is_initialized():
        yield False
        return
    target = address or os.environ.get("RAY_ADDRESS") or OWN
    with ExitStack() as undo:
        undo.enter_context(environment(_settings() if target == OWN else {}))
        undo.callback(ray.shutdown)   # also what has begun to start
        try:
            if target == OWN:
                _start(cpus or usable_cpus())
            else:
                _join(target)
        except SystemExit as stop:   # Ray's own handler of SIGTERM, which it sets while it starts
            raise KeyboardInterrupt from stop
        undo.enter_context(raylet_watched())
        yield target == OWN


def _join(target: str) -> None:
    with kept_back():
        address = reachable(target)
    try:
        _init(address)
    except Exception as error:
        raise InputError(f"the Ray cluster at {target!r} (--address or RAY_ADDRESS) cannot be joined: {_line(error)}") from error


def _start(cpus: int) -> None:
    require_temporary_folder()
    try:
        _init(OWN, num_cpus=cpus, include_dashboard=False)
    except Exception as error:
        raise InputError(f"Ray does not start on this machine: {_line(error)}; --local runs without it") from error


def _init(address: str, **options: Any) -> None:
    with kept_back():
        ray.init(address=address, job_config=OwnCode(), log_to_driver=True, logging_level=logging.WARNING, configure_logging=False,
                 **options)
    for name, handle in printed.handlers:
        if name == PRINTER:
            printed.remove_handler(PRINTER)
            printed.add_handler(PRINTER, partial(_of_others, handle))


def _of_others(handle: Callable[[dict[str, Any]], None], said: dict[str, Any]) -> None:
    lines = [line for line in said.get("lines", ()) if not line.startswith(DEATH)]
    if said.get("pid") != HEAD and lines:
        handle({**said, "lines": lines})


def _settings() -> dict[str, str]:
    """Environment of a cluster of our own: no processes but those that are used and nothing told to anybody, unless the user asks
    for it, and where no token is set up it has one that is nowhere else. Ray would write one into the home folder, which may be
    missing or read-only."""
    defaults = {"RAY_USAGE_STATS_ENABLED": "0", **NO_IDLE_WORKERS}
    settings = {name: os.environ.get(name, value) for name, value in defaults.items()}
    has_token = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    if os.environ.get(MODE, "token").lower() == "token" and not has_token:
        settings[TOKEN] = os.urandom(32).hex()
    return settings


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """These variables while the block lasts, in which Ray says of no cluster that it has a token. It looks at its token again at
    both ends."""
    before = {name: os.environ.get(name) for name in [*settings, MODE]}
    logger = logging.getLogger(CHATTY)
    level = logger.level
    logger.setLevel(logging.ERROR)
    os.environ.update(settings)
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        AuthenticationTokenLoader.instance().reset_cache()
        Config.initialize("")
        logger.setLevel(level)


def _line(error: Exception) -> str:
    """The last line of an error, which says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
