"""Packing: batches that fit, turns between requests, nobody starves, every input exactly once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.embed_batch import BatchQueue, Pending
from worker.engine.embedder_api import EmbedRequest


def pending(name: str, *lengths: int) -> Pending:
    inputs = tuple((1,) * length for length in lengths)
    return Pending(EmbedRequest(name, inputs), lambda _output: None, width=2, at=0.0)


def queue(*requests: Pending, tokens: int = 10, inputs: int = 8) -> BatchQueue:
    made = BatchQueue(tokens=tokens, inputs=inputs)
    for request in requests:
        made.add(request)
    return made


def names(batch: list) -> list[tuple[str, int]]:
    return [(item.pending.request.request_id, item.index) for item in batch]


def test_requests_take_turns():
    packed = queue(pending("long", *[2] * 100), pending("short", 2, 2), tokens=10)
    assert names(packed.next_batch()) == [("long", 0), ("short", 0), ("long", 1), ("short", 1), ("long", 2)]


def test_no_more_inputs_than_sequences():
    assert len(queue(pending("a", *[1] * 9), inputs=4).next_batch()) == 4


def test_what_did_not_fit_is_first_next_time():
    packed = queue(pending("a", 4, 4), pending("big", 9), pending("c", 4))
    assert names(packed.next_batch()) == [("a", 0), ("c", 0)]
    assert names(packed.next_batch()) == [("big", 0)]
    assert names(packed.next_batch()) == [("a", 1)]
    assert packed.next_batch() == []


def test_an_input_longer_than_a_batch_goes_alone():
    packed = queue(pending("a", 99), pending("b", 1))
    assert names(packed.next_batch()) == [("a", 0)]
    assert names(packed.next_batch()) == [("b", 0)]


def test_a_dropped_request_is_not_packed():
    gone = pending("gone", 1, 1)
    packed = queue(gone, pending("b", 1))
    packed.drop(gone)
    packed.drop(gone)
    assert names(packed.next_batch()) == [("b", 0)]


def test_a_request_is_done_when_every_row_is_there():
    request = pending("a", 1, 1)
    request.begin(0.5)
    request.begin(9.0)
    request.store(1, np.array([3, 4], dtype=np.float32))
    assert (request.output().done, request.output().last) == (1, False)
    request.store(0, np.array([1, 2], dtype=np.float32))
    output = request.output()
    assert output.last
    assert output.queue_ms == 500
    assert output.vectors.tolist() == [[1, 2], [3, 4]]


@given(st.lists(st.lists(st.integers(1, 15), min_size=1, max_size=6), max_size=6), st.integers(1, 5))
def test_every_input_once_within_the_limits(requests, inputs):
    packed = queue(*(pending(str(i), *lengths) for i, lengths in enumerate(requests)), inputs=inputs)
    seen = []
    while batch := packed.next_batch():
        assert len(batch) <= inputs
        assert len(batch) == 1 or sum(len(item.tokens) for item in batch) <= 10
        seen += names(batch)
    assert sorted(seen) == [(str(i), j) for i, lengths in enumerate(requests) for j in range(len(lengths))]


@given(st.lists(st.tuples(st.sampled_from(["add", "drop", "batch"]), st.integers(1, 15)), max_size=40))
def test_waiting_tokens_are_those_of_the_inputs_that_were_in_no_batch(steps):
    packed, waiting, left = queue(), [], 0
    for what, number in steps:
        if what == "add":
            waiting.append(pending(str(len(waiting)), *[number] * 3))
            packed.add(waiting[-1])
            left += 3 * number
        elif what == "drop" and waiting:
            one = waiting.pop(number % len(waiting))
            left -= one.tokens_left()
            packed.drop(one)
        elif what == "batch":
            left -= sum(len(item.tokens) for item in packed.next_batch(longest=number))
        assert packed.waiting_tokens == left
