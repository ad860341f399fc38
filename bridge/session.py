"""The bridge's session: everything that happens goes in, what is to be done comes out. Sans-I/O.

Inputs are frames of the API, event batches and heartbeats from the relay, results of dispatch, the state of both
links, and time (`tick`). Every input returns the effects to carry out, in order. Times are monotonic seconds.
One thread (the event loop) calls it; no input blocks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge import problems
from bridge.admission import Limits
from bridge.adoption import Adoption
from bridge.attempts import Attempts
from bridge.effects import DrainWorker, DropLink, Effect
from bridge.entries import Found, InstallEntry
from bridge.fleet import Gone
from bridge.flow import KEPT_CHARS, to_give_up
from bridge.hooks import Hooks
from bridge.installs import Installs
from bridge.intake import Intake
from bridge.ledger import Ledger
from bridge.outlet import Outlet
from bridge.pieces import Pieces
from bridge.protocol import Ack, ApiFrame, Blob, Cancel, Drain, Install, JobFrame, Uninstall, Welcome
from bridge.readings import Readings
from bridge.resumption import Resumption
from bridge.stream import Stream
from bridge.uploads import Uploads
from bridge.watch import Watch
from tasks.contract import InstallProgress, WorkerInfo
from tasks.errors import PendraError
from tasks.events import Envelope
from tasks.logs import event
from tasks.sealing import Opener
from tasks.settings_values import BACKENDS

log = logging.getLogger("pendra.bridge")


class Session:
    """One bridge. `bridge_id` names its channel and stream; `wall` is the clock that deadlines are in.

    `order`: backends, the preferred first. `hooks` hear what becomes of jobs. `veto`: why no new
    job may be taken at the moment, None when nothing outside the session stands against it.
    """

    def __init__(
        self,
        bridge_id: str,
        opener: Opener,
        *,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        order: tuple[str, ...] = BACKENDS,
        wall: Callable[[], float] = time.time,
        hooks: Hooks | None = None,
        veto: Callable[[], PendraError | None] = lambda: None,
    ) -> None:
        self._ledger = Ledger(bridge_id, wall, hooks)
        self._ledger.fleet.order = order
        self._stream = Stream(self._ledger, opener)
        self._watch = Watch(self._ledger)
        self._adoption = Adoption(self._ledger)
        self._installs = Installs(self._ledger)
        self._uploads = Uploads(self._ledger)
        self._intake = Intake(self._ledger, self._uploads, self._watch, limits, veto)
        self._resumption = Resumption(self._ledger, self._installs)
        self._outlet = Outlet(self._ledger, self._watch, self._intake)
        self._flush, self._out = self._outlet.flush, self._outlet.out
        self.attempts = Attempts(self._ledger, self._stream, self._flush)
        """Told what came of sending jobs to workers."""
        self.pieces = Pieces(self._ledger, self._uploads, self._flush)
        """Told what became of the pieces of large parts."""
        self.readings = Readings(self._ledger, self._watch, self._intake, self._installs)
        """Asked how things stand."""

    @property
    def open_jobs(self) -> int:
        return len(self._ledger.jobs.open)

    @property
    def linked(self) -> bool:
        return self._ledger.linked

    # ---------------------------------------------------------------- what a predecessor left

    def adopt(self, left: Sequence[Found], now: float) -> list[Effect]:
        """Before the first link: take these jobs over; then feed the replay stream from its beginning."""
        self._adoption.begin(left, now)
        return self._flush(now)

    def adopt_installs(self, left: list[InstallEntry], now: float) -> list[Effect]:
        """Installs go on by themselves: from now on it is us who tells the API."""
        self._installs.adopt(left)
        return self._flush(now)

    def adopted(self, now: float) -> list[Effect]:
        """The replay stream was read to its end, or could not be."""
        self._adoption.end()
        self._ledger.fleet.renew_all(now)
        for news in self._adoption.take_news():
            self._watch.news(news, now)
        return self._flush(now)

    # ---------------------------------------------------------------- from the API

    def frame(self, frame: ApiFrame, now: float) -> list[Effect]:
        match frame:
            case JobFrame():
                self._intake.take(frame.model_copy(update={"laid": ()}) if frame.laid else frame, now)
            case Blob():
                if (whole := self._uploads.piece(frame, now)) is not None:
                    self._intake.take(whole, now)
            case Cancel():
                self._uploads.cancel(frame.job_id, now)
                if not self._installs.cancel(frame.job_id, discard=frame.discard):
                    self._cancel(frame.job_id, now)
            case Ack():
                self._ledger.acked(frame.job_id, frame.seq)
                self._installs.ack(frame.job_id, frame.seq)
                return self._out()  # thousands a second, and nobody can go because of one
            case Drain(worker_id=None):
                return self.drain(now)
            case Drain(worker_id=str(worker_id)):
                self._drain_worker(worker_id)
            case Install() | Uninstall():
                self._installs.ask(frame)
            case _:
                event(log, logging.WARNING, "frame.unexpected", frame=frame.type)
        return self._flush(now)

    def welcomed(self, welcome: Welcome, now: float) -> list[Effect]:
        """The link is up: say what we hold, cancel what the API forgot, replay what it missed."""
        self._ledger.flow.up()
        resumed = self._resumption.welcomed(welcome, now)
        self._outlet.relinked()
        event(log, logging.INFO, "link.up", resumed=resumed, open_jobs=self.open_jobs)
        return self._flush(now)

    def unlinked(self) -> None:
        """The link is down: jobs go on, their frames wait."""
        if self._ledger.linked:
            event(log, logging.WARNING, "link.down", open_jobs=self.open_jobs)
        self._ledger.flow.down()
        self._uploads.unlinked()

    def written(self, chars: int) -> list[Effect]:
        """The link has passed this many characters on to the network: there is room for more."""
        self._ledger.flow.written(chars)
        return self._out()

    # ---------------------------------------------------------------- from the relay

    def events(self, batch: Sequence[Envelope], now: float) -> list[Effect]:
        freed = self._ledger.fleet.freed
        self._stream.take(batch, now)
        return self._flush(now, release=self._ledger.fleet.freed != freed)

    def fleet_news(self, news: WorkerInfo | Gone, now: float) -> list[Effect]:
        if self._adoption.active:
            self._adoption.put_off(news)
        else:
            self._watch.news(news, now)
        return self._flush(now)

    def pong(self, now: float) -> None:
        """Our own ping came back: Redis passes on what is said."""
        self._watch.heard(now)

    def redis_lost(self, now: float) -> None:
        """Redis does not answer: nothing is released, and no lease is judged."""
        self._watch.redis_lost(now)

    def redis_back(self, now: float, *, data_lost: bool) -> list[Effect]:
        """Redis answers. `data_lost`: it is another server process, so queues, slots and streams are gone."""
        self._watch.redis_back(now, data_lost=data_lost)
        if data_lost:
            self._installs.redis_emptied()
        return self._flush(now)

    def heal_started(self) -> None:
        self._stream.heal_started()

    def healed(self, now: float, *, full: bool) -> list[Effect]:
        self._stream.healed(full=full, now=now)
        return self._flush(now)

    # ---------------------------------------------------------------- from installer agents

    @property
    def install_tasks(self) -> tuple[str, ...]:
        """The tasks whose state is of interest."""
        return self._installs.running

    def install_progress(self, task_id: str, progress: InstallProgress, now: float) -> list[Effect]:
        self._installs.progress(task_id, progress)
        return self._flush(now)

    def install_ended(
        self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None, now: float
    ) -> list[Effect]:
        self._installs.ended(task_id, result, problem)
        return self._flush(now)

    # ---------------------------------------------------------------- time and the end

    def tick(self, now: float) -> list[Effect]:
        """Leases, timers, waiting jobs, adverts. Call about every 50 ms."""
        if not self._adoption.active:
            self._watch.tick(now)
        self._uploads.tick(now)
        for record in to_give_up(self._ledger.jobs.open.values(), KEPT_CHARS):
            self._ledger.cut(record, now)
        if self._ledger.linked:
            self._ledger.jobs.sweep(now)
            if self._ledger.jobs.lost_an_end():
                self._ledger.effects.append(DropLink())
        return self._flush(now)

    def drain(self, now: float) -> list[Effect]:
        """Take no new jobs; what is here goes on."""
        self._intake.draining = True
        event(log, logging.INFO, "bridge.draining", open_jobs=self.open_jobs)
        return self._flush(now)

    def shutdown(self, now: float) -> list[Effect]:
        """The grace is over: end what is still open with an error, and stop it on the workers."""
        for record in list(self._ledger.jobs.open.values()):
            self._ledger.fail(record, problems.STOPPING, now)
        self._uploads.end(problems.STOPPING, now)
        return self._flush(now)

    # ---------------------------------------------------------------- rules

    def _cancel(self, job_id: str, now: float) -> None:
        record = self._ledger.jobs.open.get(job_id)
        if record is not None:
            self._ledger.cancel(record, now)

    def _drain_worker(self, worker_id: str) -> None:
        if self._ledger.fleet.drain(worker_id):
            event(log, logging.INFO, "worker.draining", worker_id=worker_id)
            self._ledger.effects.append(DrainWorker(worker_id))
