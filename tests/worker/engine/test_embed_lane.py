"""Lanes of an embedding engine: how they share work and threads, and what becomes of faults in one of them."""

from __future__ import annotations

import threading

import gguf
import numpy as np
import pytest

from tasks.errors import JobCancelledError, WorkerError
from tests.worker.engine.embed_harness import DEADLINE_S, TEXTS, EmbedHarness, held
from worker.engine.embed_batch import BatchQueue, Pending
from worker.engine.embed_desk import Desk
from worker.engine.embed_lane import Lane, shares
from worker.engine.embedder_api import EmbedRequest
from worker.engine.pooling import PoolingContext
from worker.store.gguf import Pooling


@pytest.fixture
def two_lanes(bert, embedder) -> EmbedHarness:
    harness = embedder(bert(gguf.PoolingType.MEAN).path, threads=3, lanes=2, pack_tokens=64)
    assert [lane.share for lane in harness.engine._lanes] == [2, 1]
    return harness


def test_two_lanes_serve_one_request_together(two_lanes, mean):
    inputs = [two_lanes.ids(text) for text in TEXTS] * 20
    np.testing.assert_allclose(two_lanes.run(*inputs), mean.run(*inputs), atol=1e-2)  # other batches, other sums
    done = [output.done for output in two_lanes.outputs["run-0"]]
    assert done == sorted(done)
    assert done[-1] == 100


def test_a_second_lane_works_while_the_first_is_held_up(two_lanes):
    with held(two_lanes):
        two_lanes.submit("a tile", *[(1, 2, 3, 4)] * 16)
        assert two_lanes.wait("a tile").vectors is not None


def test_what_is_little_waits_for_more_while_another_lane_works(two_lanes):
    with held(two_lanes):
        steps = two_lanes.engine.stats().steps
        two_lanes.submit("little", (1, 2), (3,))
        assert (two_lanes.engine.stats().waiting, two_lanes.engine.stats().steps) == (1, steps)
    assert two_lanes.wait("little").vectors is not None


def test_long_inputs_belong_to_the_first_lane(bert, embedder, monkeypatch):
    monkeypatch.setattr("worker.engine.embedder.SHORT", 16)
    harness = embedder(bert(gguf.PoolingType.MEAN).path, threads=2, lanes=2, pack_tokens=16)
    first, second = harness.engine._lanes
    assert (first._context.limit, second._context.limit) == (64, 16)
    for _ in range(20):
        harness.run((1,) * 64)
    assert (first.tokens, second.tokens) == (20 * 64, 0)


def test_one_that_computes_alone_takes_all_threads(two_lanes):
    two_lanes.run((1, 2))
    assert 3 in {lane._context.threads for lane in two_lanes.engine._lanes}
    with held(two_lanes):
        two_lanes.run(*[(1, 2)] * 32)
        assert {1, 2} & {lane._context.threads for lane in two_lanes.engine._lanes}


def test_many_requests_from_many_threads_each_end_once(two_lanes):
    def client(name: str) -> None:
        for number in range(25):
            two_lanes.submit(f"{name}-{number}", (1, 2), (number + 1,), *[(3,) * 10] * (number % 5))
            if number % 4 == 0:
                two_lanes.engine.cancel(f"{name}-{number}")

    clients = [threading.Thread(target=client, args=(f"c{n}",)) for n in range(6)]
    for one in clients:
        one.start()
    for one in clients:
        one.join(DEADLINE_S)
    for name in range(6):
        for number in range(25):
            output = two_lanes.wait(f"c{name}-{number}")
            assert output.error is None or (number % 4 == 0 and isinstance(output.error, JobCancelledError))
    stats = two_lanes.engine.stats()
    assert (stats.slots_busy, stats.waiting) == (0, 0)


@pytest.mark.parametrize("fault", [WorkerError("no", code="out_of_memory"), MemoryError(), OSError("no thread")])
def test_a_lane_that_cannot_be_made_is_done_without(fault, bert, embedder, monkeypatch):
    made = []

    def context(model, config):
        if made:
            raise fault
        made.append(PoolingContext(model, config))
        return made[0]

    monkeypatch.setattr("worker.engine.embedder.PoolingContext", context)
    harness = embedder(bert(gguf.PoolingType.MEAN).path, threads=2, lanes=2)
    assert [lane.share for lane in harness.engine._lanes] == [2]
    assert harness.run((1, 2)).shape == (1, 32)


def test_a_model_with_a_memory_has_one_lane(tiny_path, embedder):
    harness = embedder(tiny_path, pooling=Pooling.LAST, ctx_per_input=200, threads=2, lanes=2, pack_tokens=16)
    assert [lane.share for lane in harness.engine._lanes] == [2]
    harness.run(*[(1,) * 10] * 5)  # more waits than it runs, and still all threads are its own
    assert harness.engine._lanes[0]._context.threads == 2


def test_one_cpu_has_one_lane(bert, embedder):
    harness = embedder(bert(gguf.PoolingType.MEAN).path, threads=1, lanes=2)
    assert [lane.share for lane in harness.engine._lanes] == [1]


@pytest.mark.parametrize(
    ("threads", "lanes", "each"),
    [(1, 1, [1]), (2, 1, [2]), (2, 2, [1, 1]), (3, 2, [2, 1]), (64, 2, [32, 32]), (8, 3, [3, 3, 2]), (1, 2, [1, 1])],
)
def test_threads_are_shared_evenly(threads, lanes, each):
    assert shares(threads, lanes) == each


# ------------------------------------------------------------------------ faults


def test_only_the_one_at_fault_fails(mean):
    real = mean.engine._lanes[0]._context.run

    def run(inputs):
        if any(7 in one for one in inputs):
            raise WorkerError("no")
        return real(inputs)

    mean.engine._lanes[0]._context.run = run
    with held(mean):
        mean.submit("good", (1, 2), (3, 4))
        mean.submit("bad", (5,), (7,), (6,))
    assert mean.wait("good").error is None
    assert mean.wait("bad").error.message == "no"
    assert mean.engine.stats().slots_busy == 0


def test_no_vector_that_is_not_a_number(mean):
    mean.engine._lanes[0]._context.run = lambda inputs: np.array(
        [[len(one), np.nan][len(one) > 1] for one in inputs]
    )[:, None]
    mean.submit("bad", (1,), (1, 2), (1, 2, 3))
    assert mean.wait("bad").error.message == "the model gave numbers that are none for input 1"


def test_an_unknown_fault_is_not_quoted(mean):
    def broken(_inputs):
        raise ValueError("secret")

    mean.engine._lanes[0]._context.run = broken
    mean.submit("a", (1,))
    assert mean.wait("a").error.message == "the embedding engine failed; try again"


def test_a_broken_listener_costs_nobody_else(mean):
    def broken(_output):
        raise ValueError

    mean.engine.submit(EmbedRequest("broken", ((1,),)), broken)
    assert mean.run((1, 2)).shape == (1, 32)


def test_a_fault_in_one_lane_is_told_before_the_other_may_call_the_request_complete():
    outputs = []

    class Busy(Desk):
        """Whenever vectors are stored, another lane tells its requests how far they are."""

        def store(self, batch, rows):
            super().store(batch, rows)
            self.tell([pending])

    desk = Busy(BatchQueue(tokens=1, inputs=1))
    pending = Pending(EmbedRequest("a", ((1,), (2,))), outputs.append, width=1, at=0.0)
    desk.add(pending)
    lane = Lane(desk, lambda: None, threads=1)
    for number in (1, np.nan):
        lane._keep(desk.take(1, lambda: None).batch, np.array([[number]], dtype=np.float32))
    assert [output.last for output in outputs] == [False, True]
    assert outputs[-1].error.message == "the model gave numbers that are none for input 1"


@pytest.mark.parametrize("what", ["_desk.store", "_desk.take", "_desk._queue.next_batch", "_compute_with"])
def test_a_lane_survives_what_nobody_expected_and_every_request_ends(what, mean, monkeypatch):
    """Whatever breaks, and with whatever: none waits for ever, and the engine serves on."""
    *path, name = what.split(".")
    owner = mean.engine._lanes[0]
    for part in path:
        owner = getattr(owner, part)
    real, broken = getattr(owner, name), []

    def breaks_once(*args: object):
        if not broken:
            broken.append(True)
            raise IndexError("secret")
        return real(*args)

    with held(mean):
        mean.submit("a", (1,), *[(2,) * 60] * 20)
        mean.submit("b", (1,))
        monkeypatch.setattr(owner, name, breaks_once)
    for request in ("a", "b"):
        assert mean.wait(request).error.message == "the embedding engine failed; try again"
    assert mean.run((1, 2)).shape == (1, 32)
    assert mean.engine.stats().slots_busy == 0
    assert mean.engine._desk._working == []


def test_contexts_are_freed_at_the_end(two_lanes):
    contexts = [lane._context for lane in two_lanes.engine._lanes]
    two_lanes.engine.close()
    assert [context._ctx for context in contexts] == [None, None]
