"""A slow API: what it does not take waits, bounded; it gets everything once and in order, or an honest end."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from bridge import client, jobs
from bridge.backoff import Backoff
from bridge.client import Link
from bridge.effects import CancelOnWorker, DropLink, Effect, Send
from bridge.flow import WINDOW_CHARS
from bridge.outbox import LIMIT_CHARS
from bridge.protocol import Ack, ApiFrame, JobMark, Welcome
from bridge.session import Session
from tests.bridge.builders import Driven, batch, chunk, finished, worker
from tests.bridge.test_client import greet, hello

PIECE = 100_000


def slow(*names: str, slots: int = 8) -> Driven:
    """Jobs that run, on a link that takes nothing: whatever is sent stays on its way."""
    driven = Driven(worker(slots=slots))
    for name in names or ("j1",):
        driven.start(name)
    return driven


def on_way(driven: Driven) -> int:
    return driven.session._ledger.flow.on_way


def write(driven: Driven, chars: int | None = None) -> None:
    """The link writes what it has, or this much of it."""
    driven.do(driven.session.written(on_way(driven) if chars is None else chars))


def flood(driven: Driven, pieces: int, job_id: str = "j1", first: int = 1, size: int = PIECE) -> None:
    for seq in range(first, first + pieces):
        driven.events(chunk(seq, f"{seq}" + "x" * size, job_id))


def test_a_link_that_takes_nothing_is_given_a_window_and_no_more() -> None:
    driven = slow("a", "b", "c")
    for name in ("a", "b", "c"):
        flood(driven, 8, name)
    assert WINDOW_CHARS <= on_way(driven) < WINDOW_CHARS + 2 * PIECE
    assert sum(len(e["data"]) for f in driven.of("chunk") for e in f["events"]) < WINDOW_CHARS + 2 * PIECE


def test_when_there_is_room_again_the_rest_follows_in_order_and_in_turns() -> None:
    driven = slow("a", "b", "c")
    for name in ("a", "b", "c"):
        flood(driven, 8, name)
    while on_way(driven):
        write(driven)
        assert on_way(driven) < WINDOW_CHARS
    for name in ("a", "b", "c"):
        assert driven.seqs(name) == list(range(9))
    flood(driven, 1, "a", first=9)
    assert driven.seqs("a")[-1] == 9, "and then everything passes at once"


def test_the_end_of_a_job_waits_behind_its_text() -> None:
    driven = slow()
    flood(driven, 9)
    driven.events(finished(10))
    assert driven.of("result") == []
    driven.tick(40.0, worker())
    while on_way(driven):
        write(driven)
    assert driven.seqs() == list(range(11))
    assert [f["type"] for f in driven.frames if f["type"] in {"usage", "result"}] == ["usage", "result"]


def test_more_than_an_outbox_holds_ends_that_job_alone() -> None:
    driven = slow("a", "b")
    flood(driven, 40, "a")
    flood(driven, 1, "b", size=10)
    assert CancelOnWorker("w1", "a", 0) in driven.effects
    while on_way(driven):
        write(driven)
    (error,) = driven.of("error")
    assert (error["job_id"], error["code"], error["status"]) == ("a", "reader_too_slow", 504)
    assert driven.seqs("a") == list(range(len(driven.seqs("a")))), "the end comes right after what was sent"
    assert driven.seqs("b") == [0, 1]


def test_all_outboxes_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.session.KEPT_CHARS", 3 * PIECE)
    driven = slow("a", "b")
    driven.session.unlinked()
    flood(driven, 3, "a")
    flood(driven, 1, "b")
    driven.tick(0.0, worker(slots=8))
    assert [e.job_id for e in driven.effects if isinstance(e, CancelOnWorker)] == ["a"]
    assert sum(record.outbox.chars for record in driven.session._ledger.jobs) < 2 * PIECE


def test_adverts_wait_for_room() -> None:
    driven = slow()
    flood(driven, 12)
    driven.clear()
    driven.tick(1.0, worker(slots=8, draining=True))
    assert driven.of("workers") == []
    write(driven)
    driven.tick(0.3, worker(slots=8, draining=True))
    assert driven.of("workers")[-1]["workers"][0]["draining"] is True


def test_an_end_that_nobody_can_keep_makes_a_new_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RETAIN_CHARS", PIECE)
    driven = slow("a", "b")
    flood(driven, 5, "a")
    driven.events(finished(1, "b", data="x" * 2 * PIECE))
    assert driven.tick(0.05, worker(slots=8)) == [DropLink()]
    assert driven.tick(0.05, worker(slots=8)) == [], "said once"
    driven.session.unlinked()
    driven.link(a=0, b=0)
    assert [(e["job_id"], e["code"], e["seq"]) for e in driven.of("error")] == [("b", "worker_lost", 1)]


@pytest.mark.parametrize("have", [0, 3, 8, 9])
def test_a_reconnect_brings_exactly_what_the_api_has_not_got(have: int) -> None:
    """Of 9 pieces some were written, some given to the link that broke, some not even that."""
    driven = slow()
    flood(driven, 9)
    driven.session.unlinked()
    driven.clear()
    driven.link(j1=have)
    while on_way(driven):
        write(driven)
    assert driven.seqs() == list(range(have + 1, 10))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whatever_the_link_does_each_reader_gets_its_text_once(data: st.DataObject) -> None:
    """Writes, breaks, acknowledgements and text of three jobs in any order; the API's end believes nothing."""
    names, driven = ("a", "b", "c"), slow("a", "b", "c")
    api = dict.fromkeys(names, 0)
    made = dict.fromkeys(names, 0)
    for _ in range(data.draw(st.integers(1, 60))):
        name = data.draw(st.sampled_from(names))
        match data.draw(st.sampled_from(["text", "text", "text", "write", "ack", "break"])):
            case "text":
                made[name] += 1
                flood(driven, 1, name, made[name], data.draw(st.sampled_from([10, PIECE])))
            case "write":
                write(driven, data.draw(st.integers(0, 2 * WINDOW_CHARS)))
            case "ack":
                driven.send(Ack(job_id=name, seq=api[name]))
            case "break":
                driven.session.unlinked()
                driven.link(**api)
        read(driven, api)
        assert on_way(driven) < WINDOW_CHARS + 2 * PIECE
        assert all(r.outbox.chars <= LIMIT_CHARS + 2 * PIECE for r in driven.session._ledger.jobs)
    while on_way(driven):
        write(driven)
        read(driven, api)
    ended = {frame["job_id"] for frame in driven.of("error")}
    assert all(api[name] == made[name] for name in names if name not in ended)


def read(driven: Driven, api: dict[str, int]) -> None:
    """The API reads what was sent: every seq is the next one, or one it has."""
    for name, has in list(api.items()):
        for seq in driven.seqs(name):
            assert seq <= has + 1, "a hole"
            has = api[name] = max(has, seq)  # noqa: PLW2901
    errors = driven.of("error")
    driven.clear()
    driven.frames += errors


# ------------------------------------------------------------------ a real socket


class Shell:
    """The session behind a real link, as `bridge.process` has it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.link: Link
        self.most_queued = 0

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.link.send(effect.text)
        self.most_queued = max(self.most_queued, self.link._outbox_chars)

    def welcomed(self, welcome: Welcome) -> None:
        self.apply(self.session.welcomed(welcome, time.monotonic()))

    def frame(self, frame: ApiFrame) -> None:
        self.apply(self.session.frame(frame, time.monotonic()))

    def written(self, chars: int) -> None:
        self.apply(self.session.written(chars))

    def unlinked(self) -> None:
        self.session.unlinked()


async def test_a_slow_reader_behind_a_real_socket_gets_everything_within_the_bounds() -> None:
    """64 MB wait for a reader that first does not read at all; the bridge never queues more than its window."""
    names = [f"j{n}" for n in range(64)]
    driven = slow(*names, slots=64)
    driven.session.unlinked()
    shell = Shell(driven.session)
    may_read, got = asyncio.Event(), dict[str, list[int]]()

    async def api(socket: ServerConnection) -> None:
        await greet(socket, *(JobMark(job_id=name, seq=0) for name in names))
        await may_read.wait()
        while True:
            take(json.loads(await socket.recv()), got)

    async with serve(api, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        shell.link = Link(f"ws://127.0.0.1:{port}", hello, shell, backoff=Backoff(base=0.001))
        running = asyncio.create_task(shell.link.run())
        async with asyncio.timeout(30):
            while not driven.session.linked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for seq in range(1, 10):
                for name in names:
                    shell.apply(driven.session.events(batch(chunk(seq, "x" * PIECE, name)), driven.now))
                await asyncio.sleep(0)
            may_read.set()
            while sum(map(len, got.values())) < 9 * len(names):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert all(got[name] == list(range(1, 10)) for name in names)
    assert shell.most_queued < 2 * WINDOW_CHARS < client.OUTBOX_CHARS


def take(frame: dict[str, Any], got: dict[str, list[int]]) -> None:
    for event in frame.get("events", ()):
        got.setdefault(event["job_id"], []).append(event["seq"])
