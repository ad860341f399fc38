"""The Celery worker program as we run it: `celery -A tasks worker` and `python -m worker.process` both start here.

What differs from Celery's: threads only, one thread per slot, the node is `chat@<child id>`, our own queue is always
consumed and the queues of loaded models follow the runtime, no gossip or mingle, and the signals of a GPU process:
the first SIGTERM, SIGINT or SIGHUP drains, the second (or SIGQUIT) ends at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import click
from celery import platforms, signals
from celery.apps.worker import Worker
from celery.concurrency import get_implementation
from celery.utils.nodenames import default_nodename

from tasks import core_dumps, hooks, keys, logs
from tasks.errors import ConfigError
from tasks.settings import Settings, load_settings
from worker.process import Process, build_process, install

Builder = Callable[[Settings, int | None], Process]

_POOL = "threads"
_AT_ONCE_S = 2
_WHY_THREADS = (
    "the engine lives in this process and batches all requests: threads wait for it, while {pool} would need a copy "
    "of the model per worker or block the engine. Leave -P out (threads is the default); for more GPUs start one "
    "worker per GPU (`pendra worker` does)"
)


class Program(Worker):  # type: ignore[misc]  # Celery ships no types
    """Main thread only."""

    def __init__(
        self,
        app: Any = None,
        hostname: str | None = None,
        *,
        pool: Any = None,
        concurrency: Any = None,
        queues: Sequence[str] | None = None,
        autoscale: Any = None,
        build: Builder = build_process,
        **options: Any,
    ) -> None:
        try:
            refuse_other_pools(pool, sys.argv if _on_command_line() else ())
            _refuse_autoscale(autoscale)
            settings = load_settings()
            core_dumps.forbid()
            logs.configure(settings, "worker")
            self.process = build(settings, concurrency if isinstance(concurrency, int) else None)
        except ConfigError as exc:
            if _on_command_line():
                raise click.ClickException(exc.message) from None
            raise
        install(self.process)
        self.process.leave = partial(os.kill, os.getpid(), signal.SIGTERM)
        hooks.connect()
        hooks.own_logging()
        signals.worker_shutting_down.connect(self._shutting_down, weak=False, dispatch_uid="pendra.shutdown")
        worker_id = self.process.worker_id
        super().__init__(
            app=app,
            hostname=hostname if _chosen(hostname) else f"chat@{worker_id}",
            pool=_POOL,
            concurrency=self.process.slots,
            queues=[keys.worker_queue(worker_id), *(queues or ())],
            **options | {"without_gossip": True, "without_mingle": True},
        )

    def on_consumer_ready(self, consumer: Any) -> None:
        super().on_consumer_ready(consumer)
        self.process.start(consumer.want)

    def start(self) -> None:
        """Blocks until the worker has ended. `exitcode` is set then."""
        try:
            super().start()
        finally:
            self.process.stop()

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:  # noqa: FBT001, FBT002  # Celery's
        """A warm shutdown begins: the consumer closes, then the pool waits for the running jobs."""
        self.process.drain()
        super().stop(in_sighandler=in_sighandler, exitcode=exitcode)

    # ------------------------------------------------------------------- signals

    def install_platform_tweaks(self, worker: Any) -> None:
        hangup = getattr(signal, "SIGHUP", None)
        nohup = hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN
        super().install_platform_tweaks(worker)
        platforms.signals["SIGQUIT"] = self._at_once
        if nohup:
            platforms.signals.ignore("SIGHUP")
        elif hangup is not None:
            # Celery would replace this process by a new one, which nobody supervises
            platforms.signals["SIGHUP"] = signal.getsignal(signal.SIGTERM)

    def _shutting_down(self, **_: Any) -> None:
        """In the handler of the first signal, where taking a lock could hang; `stop` does the rest."""
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            platforms.signals[name] = self._at_once

    def _at_once(self, *_: Any) -> None:
        if hasattr(signal, "alarm"):  # should the goodbye hang on a lock that the interrupted code holds
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_AT_ONCE_S)
        self.process.abandon()
        os._exit(1)


def refuse_other_pools(pool: Any, argv: Sequence[str]) -> None:
    """Raise ConfigError unless the pool is threads. `argv`: the command line, if there is one.

    Celery gives us a class, and gives us threads also when `-P prefork` was asked for (its option's default is
    "prefork", which the setting `worker_pool` replaces), so what was typed has to be looked up.
    """
    if pool is not None and get_implementation(pool) is not get_implementation(_POOL):
        name = pool if isinstance(pool, str) else pool.__module__.rpartition(".")[2]
        raise ConfigError(f"pool {name!r} cannot serve models: {_WHY_THREADS.format(pool=name)}")
    typed = typed_pool(argv)
    if typed not in (None, _POOL):
        raise ConfigError(f"pool {typed!r} cannot serve models: {_WHY_THREADS.format(pool=typed)}")


def _refuse_autoscale(autoscale: Any) -> None:
    if autoscale:
        raise ConfigError("--autoscale cannot be used: how many jobs fit is fixed; set MAX_CONCURRENT or -c")


def typed_pool(argv: Sequence[str]) -> str | None:
    """What the command line says after -P or --pool, the last time it does. Pure."""
    found = None
    for arg, following in zip_longest(argv, argv[1:]):
        joined = re.fullmatch(r"(?:--pool=|-[BDE]*P=?)(.*)", arg)
        if joined:
            found = joined[1] or following
        elif arg == "--pool":
            found = following
    return found


def _on_command_line() -> bool:
    return click.get_current_context(silent=True) is not None


def _chosen(hostname: str | None) -> bool:
    """Whether somebody said -n; Celery's default arrives here, too."""
    return hostname not in (None, default_nodename(None))
