"""No (key, nonce) pair is ever published with two plaintexts, whatever dies when (docs/decisions/0006).

The bridge's real session, the real scripts on a real Redis, and workers that crash, freeze and wake, or lose their
connection between any two steps. Every worker says something else at every step, so a nonce used twice would show.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pendra import _private_inference as client

from bridge.effects import Acquire, Effect, Fence, Heal
from tasks import keys
from tasks.contract import Chunk, Claimed, Event, Finished, Job
from tasks.events import pack, unpack
from tasks.redis_client import connect
from tasks.scripts import Guard, Published, WorkerScripts
from tests.bridge.builders import SEALER, Driven, job, worker
from worker.private.frames import Frames, Steps

KID, KEY, REPLY = "ab" * 32, bytes(range(32)), "r"
STEPS = Steps(bytes(32), "j1")
BODY = {"pendra_encrypted": {"recipients": [{"kid": KID}]}}
NAMES = ("w1", "w2", "w3")
MOVES = ("seal", "seal", "send", "send", "hear", "hear", "drop", "die", "freeze", "wake", "read")
ENDS = ("finish", "redis")


@dataclass
class Attempt:
    """One worker's try: what it sealed and has not sent, and how far it is. `job` is as the bridge laid it down."""

    job: Job
    worker_id: str
    frames: Frames
    seq: int
    framed: int
    waiting: list[tuple[Event, int]] = field(default_factory=list)
    over: bool = False

    def add(self, make: Any, frames: int = 0, **fields: Any) -> None:
        event = make(job_id="j1", attempt=self.job.attempt, seq=self.seq, **fields)
        self.waiting.append((event, frames))
        self.seq += 1


class World:
    """A bridge, a Redis, and every attempt there ever was; the zombies among them go on."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self.redis = redis_client
        self.redis.flushall()
        self.scripts = WorkerScripts(redis_client)
        self.driven = Driven(*(worker(name, kids=(KID,)) for name in NAMES))
        self.alive: list[Attempt] = []
        self.frozen: list[Attempt] = []
        self.published: dict[int, set[str]] = {}
        self.unheard: list[bytes] = []
        self.words = itertools.count()
        self.do(self.driven.send(job(body=BODY)))

    # ---------------------------------------------------------------- the bridge's shells

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Acquire):
                self.dispatch(effect)
            elif isinstance(effect, Fence):
                self.scripts.release(effect.job_id, effect.attempt)
                attempts = self.driven.session.attempts
                self.do(self.driven.do(attempts.fenced(effect.job_id, effect.attempt, self.driven.now)))
            elif isinstance(effect, Heal):
                self.read(full=effect.full)

    def dispatch(self, effect: Acquire) -> None:
        chosen = effect.candidates[0][0]
        self.redis.hset(keys.job("j1"), mapping={"attempt": effect.job.attempt, "credit": chosen})
        self.driven.take(effect)
        delivered = STEPS.replay(effect.job.resume.steps if effect.job.resume else ())
        due = int(self.redis.hget(keys.private_reply(REPLY), "next") or 0)
        if delivered.frames != due:  # as PrivateJobs.open does
            return
        frames = Frames(KID, KEY, STEPS, delivered)
        attempt = Attempt(effect.job, chosen, frames, effect.job.first_seq, delivered.frames)
        attempt.add(Claimed, worker_id=chosen)
        self.alive.append(attempt)

    def read(self, *, full: bool = False) -> None:
        """The replay stream, from its beginning to its end."""
        self.driven.session.heal_started()
        for _, row in self.redis.xrange(keys.replay("b1")):
            self.hear(row[b"b"])
        self.do(self.driven.do(self.driven.session.healed(self.driven.now, full=full)))

    def hear(self, data: bytes) -> None:
        self.do(self.driven.do(self.driven.session.events(unpack(data), self.driven.now)))

    # ---------------------------------------------------------------- what may happen

    def seal(self, one: Attempt) -> None:
        sealed = one.frames.seal(f"{next(self.words)} by {one.worker_id}", (one.seq,))
        one.add(Chunk, 1, data=sealed.data, tokens=(), kid=KID, step=sealed.step, whole=sealed.whole)

    def send(self, one: Attempt) -> None:
        """Everything it has waiting, as one message."""
        if not one.waiting:
            return
        events = [event for event, _ in one.waiting]
        after = one.framed + sum(frames for _, frames in one.waiting)
        guard = Guard("j1", one.job.attempt, REPLY, one.framed, after)
        pipe = self.redis.pipeline(transaction=False)
        data = pack(one.worker_id, events, SEALER)
        self.scripts.publish(pipe, guard, "b1", data)
        verdict = Published(pipe.execute()[0])
        one.waiting.clear()
        one.framed = after
        if verdict is Published.NOW:
            self.note(events)
            self.unheard.append(data)

    def note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Chunk):
                frame = json.loads(event.data)["pendra_encrypted"]
                self.published.setdefault(frame["seq"], set()).add(frame["ciphertext"])

    def finish(self, one: Attempt) -> None:
        if not one.over:
            one.over = True
            one.add(Finished)

    def lost(self, one: Attempt) -> None:
        """The bridge thinks so: the worker's lease lapses."""
        others = [worker(name, kids=(KID,)) for name in NAMES if name != one.worker_id]
        self.do(self.driven.tick(3.2, *others))
        self.driven.beat(worker(one.worker_id, kids=(KID,), epoch=f"e{next(self.words)}"))
        self.do(self.driven.tick())

    def move(self, name: str, pick: int) -> None:
        group = self.frozen if name == "wake" else self.alive
        if name == "hear" and self.unheard:
            self.hear(self.unheard.pop(0))
        elif name == "drop" and self.unheard:
            self.unheard.pop(0)
        elif name == "read":
            self.read()
        elif name == "redis":
            self.redis.flushall()
            self.unheard.clear()
            self.do(self.driven.do(self.driven.session.redis_back(self.driven.now, data_lost=True)))
        elif group and name in {"seal", "send", "finish", "die", "freeze", "wake"}:
            self.attempt_moves(name, group, group[pick % len(group)])

    def attempt_moves(self, name: str, group: list[Attempt], one: Attempt) -> None:
        if name in {"seal", "finish"} and not one.over:
            (self.seal if name == "seal" else self.finish)(one)
        elif name == "send":
            self.send(one)
        elif name == "wake":
            group.remove(one)
            self.alive.append(one)
        elif name in {"die", "freeze"}:
            group.remove(one)
            if name == "freeze":
                self.frozen.append(one)
            self.lost(one)

    # ---------------------------------------------------------------- what must hold

    def check(self) -> None:
        twice = {seq: texts for seq, texts in self.published.items() if len(texts) > 1}
        assert not twice, f"nonces {sorted(twice)} were published twice"
        self.check_client()

    def check_client(self) -> None:
        """What the API got, in order, is what the official SDK accepts."""
        decryptor = client.ResponseDecryptor({KID: KEY})
        for frame in self.driven.of("chunk"):
            for event in frame["events"]:
                decryptor.open_chunk(json.loads(event["data"])["pendra_encrypted"])


@pytest.fixture(scope="module")
def redis_client(redis_server) -> Any:
    with connect(redis_server.url) as made:
        yield made


def moves_of(choices: tuple[str, ...], **size: int) -> Any:
    return st.lists(st.tuples(st.sampled_from(choices), st.integers(0, 3)), **size)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=moves_of(MOVES, min_size=12, max_size=50),
    end=moves_of(ENDS, max_size=1),
    after=moves_of(MOVES, max_size=20),
)
def test_no_nonce_is_published_twice(redis_client: redis.Redis, before: Any, end: Any, after: Any) -> None:
    world = World(redis_client)
    for name, pick in (*before, *end, *after):
        world.move(name, pick)
    for one in (*world.frozen, *world.alive):  # whoever is left says all it has
        world.send(one)
    world.read()
    world.check()


def test_the_property_can_fail(redis_client: redis.Redis) -> None:
    """Without the script (a plain publish) the same moves do use a nonce twice."""
    world = World(redis_client)
    (first,) = world.alive
    world.seal(first)
    world.move("freeze", 0)
    (second,) = world.alive
    world.seal(second)
    world.note([event for one in (first, second) for event, _ in one.waiting])
    with pytest.raises(AssertionError, match="published twice"):
        world.check()


def test_a_stream_survives_crashes_to_its_end(redis_client: redis.Redis) -> None:
    """Not only does nothing bad happen: with two deaths in it, the reply is complete."""
    world = World(redis_client)
    moves = (
        "seal send hear seal send die seal seal send drop seal freeze seal send finish send hear hear hear hear hear"
    )
    for name in moves.split():
        world.move(name, 0)
    world.read()
    assert world.driven.of("result"), world.driven.frames
    assert len(world.published) >= 4
    world.check()
