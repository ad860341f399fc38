"""Reading a streamed answer: words in order, facts from the trailer, errors in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops.answer import Answer, AnswerError, collect, payloads
from ops.demo import timings


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


STREAM = [
    {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
    chunk("The sky"),
    chunk(" is blue"),
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"completion_tokens": 4}},
    {
        "choices": [],
        "pendra": {
            "worker": {"id": "wrk-1-cpu0"},
            "timing": {"ttft_ms": 12.4, "tokens_per_second": 101.26, "queue_wait_ms": 3.0},
        },
    },
]


def test_words_and_facts() -> None:
    shown: list[str] = []
    answer = collect(STREAM, shown.append)
    assert shown == ["The sky", " is blue"]
    assert (answer.words, answer.finish_reason) == ("The sky is blue", "stop")
    assert timings(answer) == [
        "time to first token  12 ms",
        "speed                101.3 tokens/s",
        "waited in the queue  3.0 ms",
        "tokens               4",
        "worker               wrk-1-cpu0",
    ]


def test_a_fact_nobody_reported_is_not_invented() -> None:
    assert {line.split("  ")[-1].strip() for line in timings(Answer())} == {"not reported"}


def test_sse_lines() -> None:
    lines = [": keep-alive", "", f"data: {json.dumps(STREAM[1])}", "", "data: [DONE]", "data: ignored"]
    assert list(payloads(lines)) == [STREAM[1]]


def test_a_stream_cut_short_is_an_error() -> None:
    with pytest.raises(AnswerError, match="before"):
        list(payloads([f"data: {json.dumps(STREAM[1])}", ""]))


def test_an_error_inside_the_stream_is_told() -> None:
    with pytest.raises(AnswerError, match="the worker was lost"):
        collect([STREAM[1], {"error": {"message": "the worker was lost"}}], lambda _text: None)
