"""The world around a session as a model: API, Redis, workers that count. Nothing here is real but the session.

What can happen to a message happens when the test says so: it is lost, comes late, comes twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from bridge.effects import Acquire, CancelOnWorker, Effect, Enqueue, Forget, Heal, Release, Remember, Send
from bridge.fleet import Gone
from bridge.protocol import Ack, Cancel, Welcome
from bridge.session import Session
from tasks.contract import Claimed, Event, Failed, Job, Progress
from tasks.sealing import Opener
from tests.bridge.builders import FLEET_KEY, WALL, batch, job
from tests.bridge.model_api import Api
from tests.bridge.model_redis import Batch, Redis
from tests.bridge.model_worker import Run, Worker

TICK_S = 0.05


class World:
    """Every method is one thing that happens. AssertionError: a promise is broken."""

    def __init__(self, workers: int = 3, slots: int = 2) -> None:
        self.now = 100.0
        self.api = Api()
        self.linked = False
        self.redis = Redis()
        self.pending: list[Effect] = []
        self.heal: bool | None = None
        self.losses = self.redis_losses = self.bridge_losses = 0
        self.workers = {f"w{n}": Worker(f"w{n}", slots) for n in range(workers)}
        self.session = self._session()
        self.tick(0.0)
        self.link_up()

    def _session(self) -> Session:
        return Session("b1", Opener(FLEET_KEY), wall=lambda: WALL + self.now)

    # ---------------------------------------------------------------- the API

    def submit(self, tokens: int, *, stream: bool) -> None:
        name = self.api.ask(tokens, stream=stream)
        if self.linked:
            self._do(self.session.frame(job(name, body={"n": tokens}, stream=stream), self.now))

    def cancel(self, job_id: str) -> None:
        self.api.jobs[job_id].cancelled = True
        if self.linked:
            self._do(self.session.frame(Cancel(job_id=job_id), self.now))

    def ack(self, job_id: str) -> None:
        if self.linked:
            self._do(self.session.frame(Ack(job_id=job_id, seq=self.api.jobs[job_id].last_seq), self.now))

    def link_down(self) -> None:
        self.linked = False
        self.session.unlinked()

    def link_up(self) -> None:
        """The API names what it waits for; what the bridge has never heard of it sends again, if nothing came."""
        self.linked = True
        self._do(self.session.welcomed(Welcome(session="s", resume=self.api.marks()), self.now))

    # ---------------------------------------------------------------- what the session wants

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(text=text):
                    self._do(self.session.written(len(text)))
                    if self.linked:
                        self.api.received(json.loads(text))
                case Heal(full=full):
                    self.heal = full or bool(self.heal)
                case _:
                    self.pending.append(effect)

    def carry_out(self) -> None:
        """The oldest thing that the session wants done on Redis."""
        if self.redis.up and self.pending:
            self._carry_out(self.pending.pop(0))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Acquire(job=wanted, candidates=candidates):
                self._acquire(wanted, candidates)
            case Enqueue(job_id=job_id, attempt=attempt):
                self.redis.messages.append((job_id, attempt))
            case Remember(entry=entry):
                self.redis.registry[entry.id] = entry
            case Forget(job_id=job_id):
                self.redis.registry.pop(job_id, None)
            case Release(job_id=job_id, attempt=attempt):
                self.redis.release(job_id, attempt)
            case CancelOnWorker(worker_id=worker_id, job_id=job_id, attempt=attempt):
                self._cancelled(self.workers[worker_id], job_id, attempt)

    def _acquire(self, wanted: Job, candidates: tuple[tuple[str, int], ...]) -> None:
        alive = {here.id for here in self.workers.values() if here.alive}
        worker_id = self.redis.acquire(wanted, candidates, alive)
        if worker_id is None:
            self._do(self.session.attempts.none_free(wanted.job_id, wanted.attempt, self.now))
        else:
            self._do(self.session.attempts.taken(wanted.job_id, wanted.attempt, worker_id, 1, self.now))

    def _cancelled(self, here: Worker, job_id: str, attempt: int) -> None:
        for run in here.stop(job_id, attempt):
            self._publish(here, (Failed(**run.at(), code="cancelled", message=""),), "now")
            self.redis.release(job_id, run.job.attempt)

    # ---------------------------------------------------------------- workers

    def runs(self) -> Iterator[tuple[str, str, int]]:
        for here in self.workers.values():
            yield from ((here.id, *key) for key in here.runs)

    def claim(self, worker_id: str) -> None:
        here = self.workers[worker_id]
        claimed = self.redis.claim(worker_id) if self.redis.up and here.free else None
        if claimed is not None:
            run = here.begin(claimed)
            said = run.say(Claimed(**run.at(), worker_id=worker_id, epoch=here.info.epoch))
            self._publish(here, said, "now")

    def step(self, worker_id: str, job_id: str, attempt: int, count: int, fate: str) -> None:
        """Some tokens more, and the end with the last. `fate`: of the message (see `_publish`)."""
        here = self.workers[worker_id]
        run = here.runs.get((job_id, attempt))
        if run is None or not here.alive:
            return
        self._publish(here, run.step(count), fate)
        if run.over and self.redis.up:
            self._end(here, run)

    def _end(self, here: Worker, run: Run) -> None:
        del here.runs[run.job.job_id, run.job.attempt]
        self.redis.release(run.job.job_id, run.job.attempt)

    def _publish(self, here: Worker, events: tuple[Event, ...], fate: str) -> None:
        """`now`, `twice`, `late`, or `lost` on pub/sub; the stream has it in any case. Without Redis it waits."""
        if not self.redis.up or not events:
            return
        self.redis.stream.append((here.id, events))
        if fate == "late":
            self.redis.late.append((here.id, events))
        for _ in range({"now": 1, "twice": 2}.get(fate, 0)):
            self._deliver((here.id, events))

    def _deliver(self, message: Batch) -> None:
        worker_id, events = message
        self._do(self.session.events(batch(*events, worker_id=worker_id), self.now))

    def deliver_late(self, index: int) -> None:
        if self.redis.up and self.redis.late:
            self._deliver(self.redis.late.pop(index % len(self.redis.late)))

    def kill(self, worker_id: str, *, goodbye: bool) -> None:
        here = self.workers[worker_id]
        if here.alive:
            self.losses += 1
            here.die()
            self.redis.drop_credits(worker_id)
            if goodbye and self.redis.up:
                self._do(self.session.fleet_news(Gone(worker_id), self.now))

    def revive(self, worker_id: str) -> None:
        self.workers[worker_id].revive()

    def mute(self, worker_id: str) -> None:
        """It works on, and nobody hears its heartbeat: a zombie to be."""
        if self.workers[worker_id].beats:
            self.losses += 1
            self.workers[worker_id].beats = False

    # ---------------------------------------------------------------- time, Redis, bridges

    def tick(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            if self.redis.up:
                self._beat()
                self.session.pong(self.now)
            self._do(self.session.tick(self.now))
            if self.now >= end:
                return
            self.now += TICK_S

    def _beat(self) -> None:
        for here in self.workers.values():
            if here.alive and here.beats:
                self._do(self.session.fleet_news(here.info, self.now))

    def heal_now(self) -> None:
        """The relay reads the stream again."""
        if self.heal is None or not self.redis.up:
            return
        full, self.heal = self.heal, None
        self.session.heal_started()
        for message in list(self.redis.stream):
            self._deliver(message)
        self._do(self.session.healed(self.now, full=full))

    def redis_dies(self) -> None:
        if self.redis.up:
            self.redis.up = False
            self.session.redis_lost(self.now)

    def redis_returns(self) -> None:
        """Empty. Workers say again what they said, and that they run."""
        if self.redis.up:
            return
        self.redis.up = True
        self.losses += 1
        self.redis_losses += 1
        self.redis.empty()
        self._do(self.session.redis_back(self.now, data_lost=True))
        self.heal = bool(self.heal)
        for here in self.workers.values():
            for run in list(here.runs.values()) if here.alive else ():
                self._say_again(here, run)

    def _say_again(self, here: Worker, run: Run) -> None:
        for events in run.said:
            self._publish(here, events, "now")
        if run.over:
            self._end(here, run)
        else:
            self._publish(here, run.say(Progress(**run.at(), stage="running")), "now")

    def bridge_dies(self) -> None:
        """Its successor adopts the jobs, reads the stream, and dials."""
        if not self.redis.up:
            return
        self.bridge_losses += 1
        self.linked = False
        self.pending.clear()
        self.redis.late.clear()
        self.heal = None
        self.session = self._session()
        self.tick(0.0)
        self._do(self.session.adopt(self.redis.left(), self.now))
        self.heal = True
        self.heal_now()
        self._do(self.session.adopted(self.now))
        self.link_up()
