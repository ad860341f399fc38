"""What an API might send to a bridge: any frame, in any order, about any job."""

from __future__ import annotations

import json
import logging
from collections import Counter
from random import Random
from typing import Any

import pytest

from bridge.effects import Acquire, Effect, Fence, Heal, Send, StoreBlob
from bridge.protocol import Drain, Welcome, decode_api
from tasks.errors import BadRequestError
from tasks.events import Envelope
from tests.bridge.builders import Driven, batch, chunk, claimed, failed, finished, worker
from tests.fuzz.cases import Fuzzer, refused_well
from tests.fuzz.mutation import as_bytes, mutated

SECRET = "quartzplume"
PRIVATE = {"pendra_encrypted": {"v": 2, "recipients": [{"kid": "ab" * 32, "enc": "", "sealed_dek": ""}]}}
CHAT = {"model": "m", "messages": [{"role": "user", "content": SECRET}]}
WORKERS = (worker("w1", slots=4), worker("w2", slots=4, kids=("ab" * 32,)))


def samples(name: str) -> tuple[dict[str, Any], ...]:
    """Every frame of the API, about the job of this name."""
    job = {"type": "job", "job_id": name, "kind": "chat", "model": "m", "body": CHAT, "created": 1, "tenant": "t"}
    sealed = {"body": PRIVATE, "kids": ["ab" * 32], "stream": True, "affinity": "x", "priority": "batch"}
    variant = {"gguf_url": "https://x/y.gguf", "gguf_sha256": "ab" * 32}
    return (
        {**job, "stream": True, "deadline": 1_800_000_900.0},
        {**job, **sealed},
        {**job, "body": {}, "blobs": ["body", "file"]},
        {"type": "blob", "job_id": name, "name": "body", "index": 0, "data": "AAAA", "last": True},
        {"type": "blob", "job_id": name, "name": "file", "index": 0, "data": "AAAA", "last": False},
        {"type": "cancel", "job_id": name},
        {"type": "ack", "job_id": name, "seq": 1},
        {"type": "install", "request_id": f"i{name}", "model": "m", "variant": variant},
        {"type": "uninstall", "request_id": f"i{name}", "model": "m", "worker_id": "w1"},
        {"type": "drain", "worker_id": "w9"},
        {"type": "challenge", "nonce": "AAAA", "time": 1.0, "protocol": 1},
        {"type": "welcome", "session": "s", "resume": [{"job_id": name, "seq": 3}, {"job_id": "j9", "seq": -1}]},
    )


def frame(rng: Random) -> bytes:
    sample = rng.choice(samples(f"j{rng.randrange(40)}"))
    return as_bytes(mutated(sample, rng), rng)


def decoded(raw: bytes) -> Any:
    """The frame, or None for one that is refused as it must be."""
    try:
        return decode_api(raw)
    except BadRequestError as exc:
        refused_well(exc, "bad_frame", SECRET)
        return None


class Bridge:
    """A session whose effects are carried out, with workers that answer as they like."""

    def __init__(self) -> None:
        self.driven = Driven(*WORKERS)
        self.due: list[list[Envelope]] = []
        self.seen: Counter[str] = Counter()

    def receive(self, raw: bytes, rng: Random) -> None:
        got = decoded(raw)
        self.seen["refused" if got is None else "taken"] += 1
        if isinstance(got, Welcome):
            self.driven.session.unlinked()
            self.do(self.driven.session.welcomed(got, self.driven.now), rng)
        elif got is not None and not (isinstance(got, Drain) and got.worker_id is None):  # else all ends here
            self.do(self.driven.session.frame(got, self.driven.now), rng)
        self.pass_time(rng)

    def pass_time(self, rng: Random) -> None:
        driven = self.driven
        driven.now += rng.choice((0.0, 0.05, 1.0))
        for info in WORKERS:
            self.do(driven.session.fleet_news(info, driven.now), rng)
        driven.session.pong(driven.now)
        while self.due and rng.random() < 0.9:
            self.do(driven.session.events(self.due.pop(), driven.now), rng)
        self.do(driven.session.tick(driven.now), rng)
        driven.clear()

    def do(self, effects: list[Effect], rng: Random) -> None:
        session, now = self.driven.session, self.driven.now
        for effect in effects:
            match effect:
                case Send(text=text):
                    self.seen[json.loads(text)["type"]] += 1
                    self.do(session.written(len(text)), rng)
                case Acquire(job=job, candidates=candidates):
                    worker_id = rng.choice(candidates)[0]
                    self.do(session.attempts.taken(job.job_id, job.attempt, worker_id, 9, now), rng)
                    self.work(job.job_id, job.attempt, job.first_seq, worker_id, rng)
                case StoreBlob(data=data):
                    session.pieces.stored(len(data))
                case Heal(full=full):
                    session.heal_started()
                    self.do(session.healed(now, full=full), rng)
                case Fence(job_id=job_id, attempt=attempt):
                    self.do(session.attempts.fenced(job_id, attempt, now), rng)

    def work(self, job_id: str, attempt: int, seq: int, worker_id: str, rng: Random) -> None:
        said: list[Any] = [claimed(job_id, seq, attempt, worker_id)]
        said += [chunk(seq + 1, "x", job_id, attempt)] if rng.random() < 0.7 else []
        ends = (finished(seq + 2, job_id, attempt), failed(seq + 2, job_id, attempt, retryable=True), None)
        said += [end] if len(said) > 1 and (end := rng.choice(ends)) else []
        self.due.append(batch(*said, worker_id=worker_id))


@pytest.fixture
def bridge(caplog: pytest.LogCaptureFixture) -> Bridge:
    caplog.set_level(logging.CRITICAL, "pendra")
    return Bridge()


def test_frames_of_an_api(fuzzer: Fuzzer, bridge: Bridge) -> None:
    fuzzer.run(lambda rng: bridge.receive(frame(rng), rng), sample=1500, all_of_them=25_000)
    told = {"refused", "taken", "accepted", "progress", "chunk", "result", "error"}
    assert all(bridge.seen[kind] > 10 for kind in told), bridge.seen  # else it was not much of a test


def test_bytes_of_an_api(fuzzer: Fuzzer) -> None:
    fuzzer.run(lambda rng: decoded(rng.randbytes(rng.randrange(200))), sample=300, all_of_them=5_000)
