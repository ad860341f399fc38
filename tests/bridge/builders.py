"""Short names for what the bridge's tests need: frames, heartbeats, event batches, and a driven session."""

from __future__ import annotations

import json
from typing import Any

from bridge.effects import Acquire, DropInstall, Effect, Enqueue, Forget, NoteInstall, Remember, Send
from bridge.entries import Entry
from bridge.protocol import JobFrame, JobMark, Welcome
from bridge.session import Session
from tasks.contract import Chunk, Claimed, Event, Failed, Finished, ModelInfo, Progress, Usage, WorkerInfo
from tasks.events import Envelope, pack, unpack
from tasks.sealing import FleetKey, Opener, Sealer

_ASIDE = Send | Remember | Forget | NoteInstall | DropInstall  # what `Driven.do` does not hand back
FLEET_KEY = FleetKey(bytes(range(32)))
SEALER = Sealer(FLEET_KEY)
WALL = 1_800_000_000.0


def job(job_id: str = "j1", model: str = "m", **fields: Any) -> JobFrame:
    defaults: dict[str, Any] = {"kind": "chat", "stream": True, "body": {"messages": []}, "created": 0}
    return JobFrame(job_id=job_id, model=model, **(defaults | fields))


def worker(worker_id: str = "w1", *, slots: int = 2, loaded: tuple[str, ...] = ("m",), **fields: Any) -> WorkerInfo:
    """A heartbeat; `installed` names more models, which are not in memory."""
    names = (*loaded, *fields.pop("installed", ()))
    defaults: dict[str, Any] = {
        "epoch": "e1",
        "name": worker_id.upper(),
        "node": "host",
        "pid": 1,
        "version": "1.2",
        "device": "cpu0",
        "models": tuple(ModelInfo(id=name, loaded=name in loaded) for name in names),
    }
    return WorkerInfo(worker_id=worker_id, slots_total=slots, **(defaults | fields))


def batch(*events: Event, worker_id: str = "w1", sealer: Sealer = SEALER) -> list[Envelope]:
    return unpack(pack(worker_id, events, sealer))


def claimed(job_id: str = "j1", seq: int = 0, attempt: int = 0, worker_id: str = "w1") -> Claimed:
    return Claimed(job_id=job_id, attempt=attempt, seq=seq, worker_id=worker_id, worker_name=worker_id.upper())


def progress(job_id: str = "j1", seq: int = 1, attempt: int = 0) -> Progress:
    return Progress(job_id=job_id, attempt=attempt, seq=seq, stage="prefill", fraction=0.5)


def chunk(seq: int, data: str = "x", job_id: str = "j1", attempt: int = 0, **fields: Any) -> Chunk:
    """A chunk whose token is its seq, unless `tokens` says otherwise."""
    return Chunk(job_id=job_id, attempt=attempt, seq=seq, data=data, **({"tokens": (seq,)} | fields))


def finished(seq: int, job_id: str = "j1", attempt: int = 0, data: str | None = None) -> Finished:
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    return Finished(job_id=job_id, attempt=attempt, seq=seq, data=data, usage=usage)


def failed(seq: int, job_id: str = "j1", attempt: int = 0, *, code: str = "out_of_memory", **fields: Any) -> Failed:
    return Failed(job_id=job_id, attempt=attempt, seq=seq, code=code, message="no room", **fields)


class Driven:
    """A session with a clock that is moved by hand. `do(effects)` sorts what came out.

    `registry` is what would be in Redis of its open jobs.
    """

    def __init__(self, *workers: WorkerInfo, linked: bool = True, **options: Any) -> None:
        self.now = 100.0
        self.session = Session("b1", Opener(FLEET_KEY), wall=self.wall, **options)
        self.frames: list[dict[str, Any]] = []
        self.effects: list[Effect] = []
        self.registry: dict[str, Entry] = {}
        for info in workers:
            self.beat(info)
        if linked:
            self.link()
        self.clear()

    def wall(self) -> float:
        return WALL + self.now

    def clear(self) -> None:
        self.frames.clear()
        self.effects.clear()

    def do(self, effects: list[Effect]) -> list[Effect]:
        self.frames += [json.loads(effect.text) for effect in effects if isinstance(effect, Send)]
        others = [effect for effect in effects if not isinstance(effect, _ASIDE)]
        for effect in effects:
            if isinstance(effect, Remember):
                self.registry[effect.entry.id] = effect.entry
            elif isinstance(effect, Forget):
                del self.registry[effect.job_id]
        self.effects += others
        return others

    def beat(self, info: WorkerInfo) -> None:
        self.do(self.session.fleet_news(info, self.now))

    def link(self, **marks: int) -> None:
        resume = tuple(JobMark(job_id=job_id, seq=seq) for job_id, seq in marks.items())
        self.do(self.session.welcomed(Welcome(session="s", resume=resume), self.now))

    def send(self, frame: Any) -> list[Effect]:
        return self.do(self.session.frame(frame, self.now))

    def events(self, *events: Event, worker_id: str = "w1") -> list[Effect]:
        return self.do(self.session.events(batch(*events, worker_id=worker_id), self.now))

    def tick(self, seconds: float = 0.0, *beats: WorkerInfo, silent: bool = False) -> list[Effect]:
        """Let time pass in ticks of 50 ms; `beats` are the workers that go on beating. `silent`: so is Redis."""
        out: list[Effect] = []
        end = self.now + seconds
        while True:
            for info in beats:
                out += self.do(self.session.fleet_news(info, self.now))
            if not silent:
                self.session.pong(self.now)
            out += self.do(self.session.tick(self.now))
            if self.now >= end:
                return out
            self.now += 0.05

    def take(self, effect: Effect, worker_id: str | None = None) -> Enqueue:
        """Answer an Acquire: its first candidate's slot (or `worker_id`'s) is ours."""
        assert isinstance(effect, Acquire)
        chosen = worker_id or effect.candidates[0][0]
        (enqueue,) = self.do(self.session.attempts.taken(effect.job.job_id, effect.job.attempt, chosen, 9, self.now))
        assert isinstance(enqueue, Enqueue)
        return enqueue

    def start(self, job_id: str = "j1", worker_id: str | None = None, **fields: Any) -> None:
        """Job sent, slot taken, claimed: it runs."""
        acquire = next(e for e in self.send(job(job_id, **fields)) if isinstance(e, Acquire))
        taken = self.take(acquire, worker_id)
        runs_on = worker_id or acquire.candidates[0][0]
        self.events(claimed(job_id, acquire.job.first_seq, taken.attempt, runs_on), worker_id=runs_on)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]

    def text(self, job_id: str = "j1") -> str:
        """The text the API has of a job, from its chunk frames."""
        return "".join(e["data"] for f in self.of("chunk") for e in f["events"] if e["job_id"] == job_id)

    def seqs(self, job_id: str = "j1") -> list[int]:
        """The seqs the API got of a job, in order of arrival."""
        out: list[int] = []
        for frame in self.frames:
            if frame["type"] == "chunk":
                out += [e["seq"] for e in frame["events"] if e["job_id"] == job_id]
            elif frame.get("job_id") == job_id and "seq" in frame:
                out.append(frame["seq"])
        return out


def only(effects: list[Any], kind: type[Any]) -> Any:
    """The one effect of this kind."""
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found
