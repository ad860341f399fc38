from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.backends.external.openai.sse import EventTooLargeError, SseParser

STREAM = (
    b'data: {"a":1}\n\n: comment\ndata:two\r\n\r\nevent: x\n'
    b"data: th\xc3\xa4t\ndata: three\n\nnoise\n\ndata: [DONE]\n\n"
)
EVENTS = ['{"a":1}', "two", "thät\nthree", "[DONE]"]


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
def test_events_are_the_same_wherever_the_pieces_are_cut(cuts):
    places = [0, *sorted(set(cuts)), len(STREAM)]
    parser = SseParser()
    events = [e for a, b in pairwise(places) for e in parser.feed(STREAM[a:b])]
    assert events + parser.close() == EVENTS


def test_a_last_event_without_its_blank_line_counts():
    parser = SseParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.close() == ["a"]
    assert parser.close() == []


def test_bad_utf8_does_not_stop_the_stream():
    assert SseParser().feed(b"data: \xff\n\n") == ["�"]


def test_an_event_without_an_end_is_refused():
    with pytest.raises(EventTooLargeError):
        SseParser(limit=100).feed(b"data: " + b"x" * 200)
