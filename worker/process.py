"""One serving process: its parts, made before Celery starts, run while Celery consumes, taken down after it.

    settings ─► logs ─► redis ─► sealer ─► publisher ─► runtime ─► heartbeat ─► control

Celery (`worker.program`) brings messages; everything else is here. The heartbeat starts as soon as messages can
come, so that a worker is visible while its models load.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tasks import keys, redis_persistence, tracing
from tasks.contract import WorkerInfo
from tasks.errors import ConfigError, PendraError, UnavailableError
from tasks.logs import event, where
from tasks.redis_client import connect
from tasks.sealing import Opener, Sealer
from tasks.settings import Settings
from worker.advert import Advert, Told
from worker.capacity import MAX_SLOTS, slots_from_memory
from worker.control import Control
from worker.gpu_watch import GpuWatch, check, named
from worker.heartbeat import Heartbeat
from worker.model_orders import ModelOrders, Models
from worker.private.keys import Keyring
from worker.publisher import Publisher
from worker.running import Running
from worker.serve import JobServer, Server
from worker.watchdog import STALL_S, Pulse, Watchdog

_LOG = logging.getLogger("pendra.worker")
EX_CONFIG = 78  # sysexits.h
_HAND_OVER_S = 1.0  # before the grace limit
_GOODBYE_S = 0.5  # what an immediate end spends on telling the fleet

Want = Callable[[Iterable[str]], None]


class Serving(JobServer, Told, Models, Protocol):
    """What the process needs of `worker.runtime.Runtime`."""

    def preload(self, models: tuple[str, ...]) -> None: ...
    def close(self) -> None: ...


MakeRuntime = Callable[[Settings, int, Publisher, Callable[[], None]], Serving]
"""Of settings, slots, publisher, and what to call when its models change."""


class Process:
    """The parts of one serving process. `start` once Celery consumes, `stop` when it has ended."""

    def __init__(
        self,
        settings: Settings,
        slots: int,
        make: MakeRuntime,
        *,
        stall_s: float = STALL_S,
        gpus: tuple[str, ...] = (),
    ) -> None:
        self.settings = settings
        self.slots = slots
        self.worker_id = settings.child_id
        self.leave: Callable[[], None] = lambda: None
        """How a drain that shall end the process ends it; the program sets it."""
        self._draining = False
        self._ended = threading.Event()
        self._want: Want | None = None
        self._changing = threading.Lock()  # else an older look at the models could be the last one told
        self._client = client = connect(settings.redis_url)
        keyring, fleet_keys = Keyring(settings.workload_key_file), settings.fleet_keys()
        self._advert = Advert(settings, slots, keyring)
        self.running = Running(self._busy_changed)
        self.publisher = Publisher(
            client, self.worker_id, Sealer(fleet_keys[0]), worker_name=settings.worker_name, epoch=self._advert.epoch
        )
        self.runtime = make(settings, slots, self.publisher, self.changed)
        self.tracer = tracing.start("worker", self.worker_id)
        self._server = self._server_of(Opener(*fleet_keys), keyring)
        self.heartbeat = Heartbeat(client, self.info, self.running.keys, self.publisher.resend)
        self._control = self._control_of()
        self._gpus = GpuWatch(gpus, self.abandon)
        self._watchdog = Watchdog(self._pulse, self.abandon, stall_s=stall_s)

    def _server_of(self, opener: Opener, keyring: Keyring) -> Server:
        return Server(
            self._client,
            self.worker_id,
            opener,
            self.publisher,
            self.runtime,
            self.running,
            keyring,
            self.settings.labels,
            tracer=self.tracer,
        )

    def _control_of(self) -> Control:
        hears = {"on_drain": self.drain, "on_leave": self.depart}
        on_model = ModelOrders(self._client, self.worker_id, self.runtime).obey
        return Control(self._client, self.worker_id, on_cancel=self._cancel, on_model=on_model, **hears)

    # ----------------------------------------------------------------- life cycle

    def start(self, want: Want) -> None:
        """Celery consumes: come alive. `want` tells it which queues to consume besides our own."""
        self._want = want
        self.publisher.start()
        self._control.start()
        self.heartbeat.start()
        self._watchdog.start()
        self._gpus.start()
        self.changed()
        threading.Thread(target=self._preload, name="preload", daemon=True).start()
        threading.Thread(target=redis_persistence.warn, args=(self.settings.redis_url,), daemon=True).start()
        event(_LOG, logging.INFO, "worker.started", worker_id=self.worker_id, slots=self.slots, pid=os.getpid())

    def drain(self) -> None:
        """Take no new jobs; those that still run at the grace limit go to other workers. Idempotent.

        Not in a signal handler: it takes locks.
        """
        if not self._draining:
            self._draining = True
            event(_LOG, logging.INFO, "worker.draining", worker_id=self.worker_id, jobs=len(self.running))
            threading.Thread(target=self._drained, name="drain", daemon=True).start()
        self.changed()

    def depart(self) -> None:
        """Drain and end, as after SIGTERM."""
        self.drain()
        self.leave()

    def _drained(self) -> None:
        """Somebody who asked us to end kills us at the grace limit, so we are done a little before."""
        grace_s = self.settings.grace_seconds
        if not self._ended.wait(max(grace_s - _HAND_OVER_S, grace_s / 2)):
            self._hand_over()

    def _hand_over(self) -> None:
        """Give up what still runs: its bridge lets another worker go on after the last delivered token."""
        for reply in self.publisher.unanswered():
            reply.fail(UnavailableError("the worker drains and gave this request back", code="draining"))
        if handed := self.running.cancel_all():
            event(_LOG, logging.WARNING, "worker.handed_over", worker_id=self.worker_id, jobs=handed)

    def stop(self) -> None:
        """Everything that runs has ended (Celery's pool is empty): say goodbye. Idempotent."""
        if self._want is None:
            return
        self._want = None
        self._ended.set()
        self._watchdog.stop()
        self._gpus.stop()
        self.runtime.close()
        self.publisher.stop()
        self._control.stop()
        self.heartbeat.stop()
        self._client.close()
        self.tracer.close()
        event(_LOG, logging.INFO, "worker.stopped", worker_id=self.worker_id)

    def abandon(self) -> None:
        """The process is about to end with jobs running: let the fleet know now rather than when the lease lapses."""
        if self._want is not None:
            self.heartbeat.stop(_GOODBYE_S)

    # ----------------------------------------------------------------------- work

    def serve(self, job_id: str, attempt: int) -> None:
        """Run one job to its last event. Blocks; any thread; never raises."""
        self._server.serve(job_id, attempt)

    def changed(self) -> None:
        """Models or draining changed: consume what fits, and tell the fleet. Any thread; returns at once."""
        if self._want is None:
            return
        with self._changing:
            ready = [] if self._draining else [model.id for model in self.runtime.models() if model.ready]
            self._want(keys.model_queue(model) for model in ready)
        self.heartbeat.poke()

    def info(self) -> WorkerInfo:
        """What the heartbeat says of us."""
        busy, gpu = len(self.running), self._gpus.figures
        return self._advert.info(self.runtime, busy=busy, draining=self._draining, gpu=gpu)

    def _pulse(self) -> Pulse:
        """Jobs whose answer is complete wait for Redis, not for the engine: they do not count."""
        open_replies = self.publisher.unanswered()
        steps = tuple((model, stats.steps) for model, stats in self.runtime.stats().items())
        loading = all(reply.stage == "loading" for reply in open_replies)
        return Pulse(len(open_replies), loading, (self.publisher.emitted, steps))

    def _busy_changed(self) -> None:
        self.heartbeat.poke()

    def _cancel(self, job_id: str, attempt: int) -> None:
        hit = self.running.cancel(job_id, attempt)
        event(_LOG, logging.INFO, "job.cancel", job_id=job_id, attempt=attempt, running=hit)

    def _preload(self) -> None:
        try:
            self.runtime.preload(self.settings.preloaded)
        except PendraError as exc:
            event(_LOG, logging.ERROR, "worker.preload_failed", code=exc.code, why=exc.message)
        except Exception as exc:  # noqa: BLE001  # the worker still serves what loads
            event(_LOG, logging.ERROR, "worker.preload_failed", error=type(exc).__name__, at=where(exc))


def slots_of(settings: Settings, asked: int | None) -> int:
    """How many jobs run at once: `-c`, else MAX_CONCURRENT, else what fits in memory."""
    fixed = asked or settings.max_concurrent
    return min(fixed, MAX_SLOTS) if fixed else slots_from_memory(settings)


def build_process(settings: Settings, asked_slots: int | None = None) -> Process:
    """The real thing. Raises ConfigError for settings that cannot be used, and for a GPU that does not answer."""
    gpus = named(os.environ.get("CUDA_VISIBLE_DEVICES")) if settings.device.startswith("gpu") else ()
    check(gpus)
    from worker.runtime import Runtime  # noqa: PLC0415  # loads llama.cpp

    return Process(settings, slots_of(settings, asked_slots), Runtime, gpus=gpus)


# The process of this interpreter, for the task: Celery calls a function and gives it nothing but its arguments.
_current: Process | None = None


def install(process: Process) -> None:
    global _current  # noqa: PLW0603  # one per interpreter, set once by the program
    _current = process


def current() -> Process:
    """The running process. Raises ConfigError where none was started (a task called outside a worker)."""
    if _current is None:
        raise ConfigError(
            "no serving process runs here: tasks.infer runs in `pendra worker` or `celery -A tasks worker`"
        )
    return _current


def main() -> int:
    """`python -m worker.process`: the Celery worker program without Celery's command line. Returns the exit code."""
    from tasks import app  # noqa: PLC0415  # reads the settings

    return run(app)


def run(app: Any, **options: Any) -> int:
    """Start the worker program of `app` and block until it has ended. Main thread only."""
    worker = app.Worker(quiet=True, **options)
    worker.start()
    return int(worker.exitcode or 0)


def _entry() -> int:
    # run as a script this file is `__main__`; the task must find its process in `worker.process`
    from worker.process import main as entry  # noqa: PLC0415

    try:
        return entry()
    except ConfigError as exc:
        sys.stderr.write(f"worker: {exc.message}\n")
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(_entry())
