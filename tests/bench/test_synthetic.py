"""The measuring itself: what is lost or doubled shows, and the bars can be missed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from bench.bridge import middle, misses
from bench.synthetic.engine import SyntheticEngine, Token
from bench.synthetic.stream import Latencies, Stream
from bench.synthetic.worker import RATE, SyntheticRuntime, chunk
from tasks.contract import Chunk, Event, Failed, Finished, Job, Resume
from tests.fakes.waiting import until
from worker.backends.base import CancelToken
from worker.reply import JobReply

JOB = Job(job_id="j", model="m", body={}, created=0, bridge_id="b")


def data(number: int, made_ns: int = 0) -> str:
    return chunk(JOB, Token("j", number, made_ns, is_last=False))


def told(*events: tuple[int, int | None], tokens: int = 3) -> Stream:
    """A stream that got these (seq, token number) and then its result."""
    stream, latencies = Stream("j", tokens, 0), Latencies()
    for seq, number in events:
        stream.take(seq, None if number is None else data(number), 0, latencies)
    stream.ended("result")
    return stream


@pytest.mark.parametrize(
    ("events", "lost", "doubled"),
    [
        ([(0, None), (1, 0), (2, 1), (3, 2)], 0, 0),
        ([(0, None), (1, 0), (3, 2)], 2, 0),  # the seq and the token
        ([(0, None), (1, 0), (2, 1), (3, 1)], 1, 1),
        ([(0, None), (1, 0), (1, 0), (2, 1), (3, 2)], 0, 1),
        ([(0, None), (1, 0), (2, 1)], 1, 0),
    ],
)
def test_a_lost_or_doubled_token_shows(events: Any, lost: int, doubled: int) -> None:
    stream = told(*events)
    assert (stream.lost, stream.doubled) == (lost, doubled)


def test_two_ends_show() -> None:
    stream = told()
    stream.ended("error worker_lost")
    assert stream.outcome == "result, then error worker_lost"


def test_latency_is_from_making_to_arrival() -> None:
    stream, latencies = Stream("j", 3, 0), Latencies()
    stream.take(0, data(0, 5_000_000), 7_000_000, latencies)
    assert len(latencies) == 0, "not recording yet"
    latencies.recording = True
    for number in (1, 2):
        stream.take(number, data(number, 5_000_000), 6_000_000 + number * 1_000_000, latencies)
    assert (latencies.percentile(0.0), latencies.percentile(0.99)) == (2.0, 3.0)


def test_the_engine_makes_every_token_of_every_reply_once() -> None:
    got: dict[str, list[int]] = {"a": [], "b": []}
    done = threading.Semaphore(0)

    def on_step(tokens: list[Token]) -> None:
        for token in tokens:
            got[token.reply_id].append(token.number)
            if token.is_last:
                done.release()

    engine = SyntheticEngine(1000, on_step)
    engine.submit("a", 5)
    engine.submit("b", 1)
    assert done.acquire(timeout=30)
    assert done.acquire(timeout=30)
    engine.close()
    assert got == {"a": [0, 1, 2, 3, 4], "b": [0]}


class AtOnce:
    """In the publisher's place: everything is run where it is said, and out at once."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.RLock()

    def step(self, call: Callable[[], None]) -> None:
        with self._lock:
            call()

    def open(self, job: Job) -> JobReply:
        return JobReply(job, "w", "w", self.step, self._emit)

    def of(self, attempt: int) -> list[Event]:
        return [event for event in self.events if event.attempt == attempt]

    def _emit(self, reply: JobReply, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            reply.settle()


def test_an_attempt_goes_on_after_what_was_delivered_while_an_older_one_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(RATE, "500")
    publisher = AtOnce()
    unused: Any = None
    runtime = SyntheticRuntime(unused, 2, publisher, lambda: None)  # type: ignore[arg-type]
    older = JOB.model_copy(update={"body": {"tokens": 100_000}})
    newer = JOB.model_copy(update={"body": {"tokens": 60}, "attempt": 1, "resume": Resume(token_ids=(0, 1, 2))})
    cancels = [CancelToken(), CancelToken()]
    threads = [
        threading.Thread(target=runtime.serve, args=(job, publisher.open(job), cancel), daemon=True)
        for job, cancel in zip((older, newer), cancels, strict=True)
    ]
    for attempt, thread in enumerate(threads):
        thread.start()
        until(lambda at=attempt: publisher.of(at))  # type: ignore[misc]
    cancels[0].cancel()
    for thread in threads:
        thread.join(30)
    runtime.close()
    assert isinstance(publisher.of(0)[-1], Failed)
    *chunks, end = publisher.of(1)
    assert [chunk.tokens for chunk in chunks if isinstance(chunk, Chunk)] == [(n,) for n in range(3, 60)]
    assert isinstance(end, Finished)
    assert end.usage.completion_tokens == 60


def test_an_attempt_of_which_only_the_end_is_missing_ends() -> None:
    publisher = AtOnce()
    unused: Any = None
    runtime = SyntheticRuntime(unused, 1, publisher, lambda: None)  # type: ignore[arg-type]
    job = JOB.model_copy(update={"body": {"tokens": 2}, "resume": Resume(token_ids=(0, 1))})
    runtime.serve(job, publisher.open(job), CancelToken())
    runtime.close()
    (end,) = publisher.events
    assert isinstance(end, Finished)
    assert end.usage.completion_tokens == 2


def test_bars_can_be_missed() -> None:
    good = {"lost": 0, "latency_p99_ms": 3.0, "cores": {"bridge": 0.4}}
    assert misses("streams", good) == []
    bad = {"lost": 2, "latency_p99_ms": 80.0, "cores": {"bridge": 1.5}}
    assert misses("streams", bad) == ["2 lost", "p99 80.0 ms > 50 ms", "bridge 1.50 cores > 1"]
    assert misses("jobs", {"rss_growth_percent": 7.0}) == ["memory +7.0 % > 5 %"]
    assert misses("scaling", {"of_linear": 0.8, "cores": {"machine": 0.5}}) == ["0.80 of linear < 0.95"]
    assert misses("scaling", {"of_linear": 0.8, "cores": {"machine": 0.99}}) == []


def test_rounds_become_medians_and_faults_a_sum() -> None:
    rows = [{"lost": 1, "x": 1.0, "cores": {"bridge": 3.0}}, {"lost": 2, "x": 3.0, "cores": {"bridge": 5.0}}]
    assert middle(rows) == {"lost": 3, "x": 2.0, "cores": {"bridge": 4.0}}
