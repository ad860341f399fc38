"""The world around a session as a model: API, Redis, workers that count. Nothing here is real but the session.

What can happen to a message happens when the test says so: it is lost, comes late, comes twice. The API checks every
frame: a job's numbers come once, in order, without a hole, and nothing comes after its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bridge.effects import Acquire, CancelOnWorker, Effect, Enqueue, Forget, Heal, Release, Remember, Send
from bridge.entries import Entry, Found, newest
from bridge.fleet import Gone
from bridge.protocol import Ack, Cancel, JobMark, Welcome
from bridge.session import Session
from bridge.supervision import MAX_LOSSES
from tasks.contract import Chunk, Claimed, Event, Failed, Finished, Job, Progress, Usage, WorkerInfo
from tasks.sealing import Opener
from tests.bridge.builders import FLEET_KEY, WALL, batch, job, worker

Batch = tuple[str, tuple[Event, ...]]  # who published it, and what
TICK_S = 0.05


@dataclass
class Asked:
    """A job as the API sees it."""

    tokens: int
    stream: bool
    text: list[int] = field(default_factory=list)
    last_seq: int = -1
    ends: list[str] = field(default_factory=list)
    cancelled: bool = False

    @property
    def open(self) -> bool:
        return not self.ends and not self.cancelled


@dataclass
class Hash:
    """A job in Redis. `held`: whether the worker's credits have it (a worker that starts empties them)."""

    job: Job
    credit: str
    claimer: str = ""
    held: bool = True


@dataclass
class Run:
    """An attempt in a worker. `said`: what it has published, for a Redis that loses it."""

    job: Job
    tokens: int
    made: int
    seq: int
    said: list[tuple[Event, ...]] = field(default_factory=list)


class Worker:
    """`runs` by (job, attempt). `alive`: its process; `beats`: whether anybody hears of it."""

    def __init__(self, worker_id: str, slots: int) -> None:
        self.id = worker_id
        self.slots = slots
        self.epoch = 0
        self.alive = self.beats = True
        self.runs: dict[tuple[str, int], Run] = {}

    @property
    def info(self) -> WorkerInfo:
        return worker(self.id, slots=self.slots, epoch=f"e{self.epoch}", slots_busy=len(self.runs))


class World:
    """Every method is one thing that happens. AssertionError: a promise is broken."""

    def __init__(self, workers: int = 3, slots: int = 2) -> None:
        self.now = 100.0
        self.jobs: dict[str, Asked] = {}
        self.linked = False
        self.redis = True
        self.hashes: dict[str, Hash] = {}
        self.stream: list[Batch] = []
        self.messages: list[tuple[str, int]] = []
        self.registry: dict[str, Entry] = {}
        self.late: list[Batch] = []
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
        name = f"j{len(self.jobs)}"
        self.jobs[name] = Asked(tokens, stream)
        if self.linked:
            self._do(self.session.frame(job(name, body={"n": tokens}, stream=stream), self.now))

    def cancel(self, job_id: str) -> None:
        self.jobs[job_id].cancelled = True
        if self.linked:
            self._do(self.session.frame(Cancel(job_id=job_id), self.now))

    def ack(self, job_id: str) -> None:
        if self.linked:
            self._do(self.session.frame(Ack(job_id=job_id, seq=self.jobs[job_id].last_seq), self.now))

    def link_down(self) -> None:
        self.linked = False
        self.session.unlinked()

    def link_up(self) -> None:
        """The API names what it waits for; what the bridge has never heard of it sends again, if nothing came."""
        self.linked = True
        marks = tuple(JobMark(job_id=name, seq=one.last_seq) for name, one in self.jobs.items() if one.open)
        self._do(self.session.welcomed(Welcome(session="s", resume=marks), self.now))

    def _received(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "chunk":
                for event in frame["events"]:
                    self._chunk(event["job_id"], event["seq"], event["data"])
            case "progress" | "result":
                self._next(frame["job_id"], frame["seq"], frame)
            case "error":
                self._failed(frame)
            case "resume":
                self._resumed({mark["job_id"] for mark in frame["jobs"]})

    def _chunk(self, job_id: str, seq: int, data: str) -> None:
        asked = self.jobs[job_id]
        if self._is_next(job_id, seq):
            numbers = json.loads(data)
            assert numbers == list(range(len(asked.text), len(asked.text) + len(numbers))), (job_id, numbers)
            asked.text += numbers

    def _next(self, job_id: str, seq: int, frame: dict[str, Any]) -> None:
        asked = self.jobs[job_id]
        if self._is_next(job_id, seq) and frame["type"] == "result":
            whole = list(json.loads(frame["data"])) if frame["data"] else asked.text
            assert whole == list(range(asked.tokens)), (job_id, whole)
            asked.ends.append("finished")

    def _is_next(self, job_id: str, seq: int) -> bool:
        """False: it is a replay, or nobody waits for it any more."""
        asked = self.jobs[job_id]
        if not asked.open or seq <= asked.last_seq:
            return False
        assert seq == asked.last_seq + 1, f"{job_id}: {seq} after {asked.last_seq}"
        asked.last_seq = seq
        return True

    def _failed(self, frame: dict[str, Any]) -> None:
        asked = self.jobs[frame["job_id"]]
        if asked.open:
            asked.ends.append(frame["code"])

    def _resumed(self, held: set[str]) -> None:
        for name, asked in self.jobs.items():
            if asked.open and name not in held:
                assert not asked.text, f"{name} was forgotten in the middle"
                asked.cancelled = True  # the API sends it again under another id

    # ---------------------------------------------------------------- what the session wants

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(text=text):
                    self._do(self.session.written(len(text)))
                    if self.linked:
                        self._received(json.loads(text))
                case Heal(full=full):
                    self.heal = full or bool(self.heal)
                case _:
                    self.pending.append(effect)

    def carry_out(self) -> None:
        """The oldest thing that the session wants done on Redis."""
        if self.redis and self.pending:
            self._carry_out(self.pending.pop(0))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Acquire(job=wanted, candidates=candidates):
                self._acquire(wanted, candidates)
            case Enqueue(job_id=job_id, attempt=attempt):
                self.messages.append((job_id, attempt))
            case Remember(entry=entry):
                self.registry[entry.id] = entry
            case Forget(job_id=job_id):
                self.registry.pop(job_id, None)
            case Release(job_id=job_id, attempt=attempt):
                self._release(job_id, attempt)
            case CancelOnWorker(worker_id=worker_id, job_id=job_id, attempt=attempt):
                self._cancelled(worker_id, job_id, attempt)

    def _acquire(self, wanted: Job, candidates: tuple[tuple[str, int], ...]) -> None:
        self.hashes.pop(wanted.job_id, None)
        for worker_id, slots in candidates:
            held = sum(row.held and row.credit == worker_id for row in self.hashes.values())
            if held < slots and self.workers[worker_id].alive:
                self.hashes[wanted.job_id] = Hash(wanted, worker_id)
                self._do(self.session.attempts.taken(wanted.job_id, wanted.attempt, worker_id, 1, self.now))
                return
        self._do(self.session.attempts.none_free(wanted.job_id, wanted.attempt, self.now))

    def _release(self, job_id: str, attempt: int) -> None:
        row = self.hashes.get(job_id)
        if row is not None and row.job.attempt == attempt:
            del self.hashes[job_id]

    def _cancelled(self, worker_id: str, job_id: str, attempt: int) -> None:
        here = self.workers[worker_id]
        for key in [key for key in here.runs if key[0] == job_id and key[1] <= attempt and here.alive]:
            run = here.runs.pop(key)
            at = {"job_id": job_id, "attempt": key[1], "seq": run.seq}
            self._publish(here, (Failed(**at, code="cancelled", message=""),), "now")
            self._release(*key)

    # ---------------------------------------------------------------- workers

    def claim(self, worker_id: str) -> None:
        here = self.workers[worker_id]
        if not (self.redis and here.alive and self.messages and len(here.runs) < here.slots):
            return
        job_id, attempt = self.messages.pop(0)
        row = self.hashes.get(job_id)
        if row is None or row.job.attempt != attempt or row.claimer:
            return
        row.claimer = row.credit = worker_id
        made = len(row.job.resume.token_ids) if row.job.resume else 0
        run = here.runs[job_id, attempt] = Run(row.job, row.job.body["n"], made, row.job.first_seq)
        self._say(here, run, Claimed(**self._at(run), worker_id=worker_id, epoch=here.info.epoch), fate="now")

    def step(self, worker_id: str, job_id: str, attempt: int, count: int, fate: str) -> None:
        """Some tokens more, and the end with the last. `fate`: of the message (see `_publish`)."""
        here = self.workers[worker_id]
        run = here.runs.get((job_id, attempt))
        if run is None or not here.alive:
            return
        numbers = list(range(run.made, min(run.made + count, run.tokens)))
        run.made += len(numbers)
        said: list[Event] = []
        if run.job.stream and numbers:
            said.append(Chunk(**self._at(run), data=json.dumps(numbers), tokens=tuple(numbers)))
        elif numbers:
            said.append(Progress(**self._at(run), stage="decode"))
        if run.made == run.tokens:
            data = None if run.job.stream else json.dumps(list(range(run.tokens)))
            usage = Usage(completion_tokens=run.tokens)
            said.append(Finished(**self._at(run, len(said)), data=data, usage=usage))
        self._say(here, run, *said, fate=fate)
        if run.made == run.tokens and self.redis:
            self._end(here, run)

    def _end(self, here: Worker, run: Run) -> None:
        del here.runs[run.job.job_id, run.job.attempt]
        self._release(run.job.job_id, run.job.attempt)

    def _at(self, run: Run, later: int = 0) -> dict[str, Any]:
        return {"job_id": run.job.job_id, "attempt": run.job.attempt, "seq": run.seq + later}

    def _say(self, here: Worker, run: Run, *events: Event, fate: str) -> None:
        run.seq += len(events)
        run.said.append(events)
        self._publish(here, events, fate)

    def _publish(self, here: Worker, events: tuple[Event, ...], fate: str) -> None:
        """`now`, `twice`, `late`, or `lost` on pub/sub; the stream has it in any case. Without Redis it waits."""
        if not self.redis or not events:
            return
        self.stream.append((here.id, events))
        if fate == "late":
            self.late.append((here.id, events))
        for _ in range({"now": 1, "twice": 2}.get(fate, 0)):
            self._deliver((here.id, events))

    def _deliver(self, message: Batch) -> None:
        worker_id, events = message
        self._do(self.session.events(batch(*events, worker_id=worker_id), self.now))

    def deliver_late(self, index: int) -> None:
        if self.redis and self.late:
            self._deliver(self.late.pop(index % len(self.late)))

    def kill(self, worker_id: str, *, goodbye: bool) -> None:
        here = self.workers[worker_id]
        if here.alive:
            self.losses += 1
            here.alive = False
            here.runs.clear()
            self._drop_credits(worker_id)
            if goodbye and self.redis:
                self._do(self.session.fleet_news(Gone(worker_id), self.now))

    def revive(self, worker_id: str) -> None:
        here = self.workers[worker_id]
        if not here.alive:
            here.alive, here.epoch = True, here.epoch + 1
        here.beats = True

    def mute(self, worker_id: str) -> None:
        """It works on, and nobody hears its heartbeat: a zombie to be."""
        if self.workers[worker_id].beats:
            self.losses += 1
            self.workers[worker_id].beats = False

    def _drop_credits(self, worker_id: str) -> None:
        for job_id in [name for name, row in self.hashes.items() if row.credit == worker_id]:
            self.hashes[job_id].held = False

    # ---------------------------------------------------------------- time, Redis, bridges

    def tick(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            if self.redis:
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
        if self.heal is None or not self.redis:
            return
        full, self.heal = self.heal, None
        self.session.heal_started()
        for message in list(self.stream):
            self._deliver(message)
        self._do(self.session.healed(self.now, full=full))

    def redis_dies(self) -> None:
        if self.redis:
            self.redis = False
            self.session.redis_lost(self.now)

    def redis_returns(self) -> None:
        """Empty. Workers say again what they said, and that they run."""
        if self.redis:
            return
        self.redis = True
        self.losses += 1
        self.redis_losses += 1
        self.hashes.clear()
        self.messages.clear()
        self.stream.clear()
        self.late.clear()
        self._do(self.session.redis_back(self.now, data_lost=True))
        self.heal = bool(self.heal)
        for here in self.workers.values():
            for run in list(here.runs.values()) if here.alive else ():
                self._say_again(here, run)

    def _say_again(self, here: Worker, run: Run) -> None:
        for events in run.said:
            self._publish(here, events, "now")
        if run.made == run.tokens:
            self._end(here, run)
        else:
            self._say(here, run, Progress(**self._at(run), stage="running"), fate="now")

    def bridge_dies(self) -> None:
        """Its successor adopts the jobs, reads the stream, and dials."""
        if not self.redis:
            return
        self.bridge_losses += 1
        self.linked = False
        self.pending.clear()
        self.late.clear()
        self.heal = None
        self.session = self._session()
        self.tick(0.0)
        self._do(self.session.adopt([self._found(entry) for entry in self.registry.values()], self.now))
        self.heal = True
        self.heal_now()
        self._do(self.session.adopted(self.now))
        self.link_up()

    def _found(self, entry: Entry) -> Found:
        row = self.hashes.get(entry.id)
        return Found(entry) if row is None else Found(newest(entry, row.job), row.credit)

    # ---------------------------------------------------------------- the end

    def runs(self) -> Iterator[tuple[str, str, int]]:
        for here in self.workers.values():
            yield from ((here.id, *key) for key in here.runs)

    def calm_down(self) -> None:
        """Everything works again; after a while every job must have ended."""
        self.redis_returns()
        if not self.linked:
            self.link_up()
        for worker_id in self.workers:
            self.revive(worker_id)
        for _ in range(400):
            self.tick(TICK_S)
            while self.pending:
                self.carry_out()
            self.late.clear()
            self.heal_now()
            for worker_id in self.workers:
                self.claim(worker_id)
            for run in list(self.runs()):
                self.step(*run, count=8, fate="now")
            over = not self.session.open_jobs and not self.session._ledger.loose
            if over and not self.pending and not list(self.runs()):
                break
        for job_id in self.jobs:
            self.ack(job_id)
        while self.pending:
            self.carry_out()

    def _excuses(self) -> set[str]:
        """Why a job may end without its text: nobody was there, workers died too often, or two parts died at once."""
        codes = {"no_worker", "model_not_found", "redis_unavailable"}
        if self.losses >= MAX_LOSSES:
            codes.add("worker_lost")
        if self.redis_losses and self.bridge_losses:
            codes.add("stream_gap")
        return codes

    def judge(self) -> None:
        """One end each, the whole text, and nothing left anywhere."""
        for name, asked in self.jobs.items():
            assert asked.cancelled or len(asked.ends) == 1, (name, asked)
            if asked.ends == ["finished"]:
                assert not asked.stream or asked.text == list(range(asked.tokens)), (name, asked)
            elif asked.ends:
                assert asked.ends[0] in self._excuses(), (name, asked)
        ledger = self.session._ledger
        assert not ledger.jobs.open
        assert not self.registry, "a job that is over is written down"
        assert not any(row.held for row in self.hashes.values()), "a slot leaked"
        assert not self.hashes, "a job that is over is left"
        assert not any(one.running for one in ledger.scheduler._tenants.values()), "a tenant is charged for nothing"
        assert not ledger.fleet._holder, "the bridge counts a slot that is free"
