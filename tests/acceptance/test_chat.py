"""A chat request through everything: API → WSS → bridge → Celery → llama.cpp → pub/sub → bridge → WSS → API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pendra

from tests.acceptance.stack import MODEL, Stack

QUESTION = [{"role": "user", "content": "Name the capital of France in one short sentence."}]
EXACT = {"temperature": 0.0, "max_tokens": 24, "extra_body": {"cache_prompt": False}}


def test_openai_sdk_answers(openai_client: openai.OpenAI) -> None:
    reply = openai_client.chat.completions.create(model=MODEL, messages=QUESTION, **EXACT)
    assert "Paris" in (reply.choices[0].message.content or "")
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 10
    assert 0 < reply.usage.completion_tokens <= 24
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_stream_equals_non_stream_at_temperature_zero(openai_client: openai.OpenAI, stack: Stack) -> None:
    pin = {"X-Pendra-Worker-Id": stack.processes("worker")[0]["worker_id"]}
    whole = openai_client.chat.completions.create(model=MODEL, messages=QUESTION, extra_headers=pin, **EXACT)
    chunks = list(
        openai_client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, extra_headers=pin, **EXACT)
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    finishes = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert finishes == [whole.choices[0].finish_reason]
    usages = [c.usage for c in chunks if c.usage]
    assert len(usages) == 1
    assert usages[0] == whole.usage


def test_pendra_sdk_stream_names_worker_and_timings(pendra_client: pendra.Pendra, stack: Stack) -> None:
    with pendra_client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, max_tokens=16, temperature=0
    ) as stream:
        chunks = list(stream)
    assert stream.worker is not None
    assert stream.worker.id in {p["worker_id"] for p in stack.processes("worker")}
    assert stream.worker.version
    assert stream.request_id
    timing = chunks[-1].timing
    assert timing is not None
    assert timing.ttft_ms is not None
    assert timing.tokens_per_second is not None
    assert timing.tokens_per_second > 0
    assert timing.queue_wait_ms is not None
    assert [c for c in chunks if c.pendra is not None] == [chunks[-1]]


def test_pendra_sdk_non_stream_names_worker(pendra_client: pendra.Pendra) -> None:
    reply = pendra_client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8)
    assert reply.pendra is not None
    assert reply.pendra.worker is not None
    assert reply.pendra.worker.id.startswith("wrk-")


def test_headers_of_a_non_stream_reply(api: httpx.Client) -> None:
    reply = api.post("/api/v1/chat/completions", json={"model": MODEL, "messages": QUESTION, "max_tokens": 4})
    assert reply.status_code == 200
    assert reply.headers["x-request-id"]
    assert reply.headers["x-worker-id"].startswith("wrk-")
    assert reply.headers["x-worker-name"]
    assert "dur=" in reply.headers["server-timing"]


def test_pin_is_obeyed_by_every_worker(pendra_client: pendra.Pendra, stack: Stack) -> None:
    workers = [p["worker_id"] for p in stack.processes("worker")]
    assert len(workers) == 2
    for worker_id in workers * 2:
        reply = pendra_client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=2, worker_id=worker_id
        )
        assert reply.pendra.worker.id == worker_id


def test_twelve_streams_at_once(stack: Stack, openai_client: openai.OpenAI) -> None:
    def one(number: int) -> str:
        ask = [{"role": "user", "content": f"Write the number {number} and then a short poem."}]
        chunks = openai_client.chat.completions.create(
            model=MODEL, messages=ask, stream=True, max_tokens=32, extra_body={"ignore_eos": True}
        )
        counted = 0
        for chunk in chunks:
            counted = chunk.usage.completion_tokens if chunk.usage else counted
        return f"{number}:{counted}"

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(one, range(12))) == [f"{n}:32" for n in range(12)]


def test_more_streams_than_slots_wait_their_turn(stack: Stack, openai_client: openai.OpenAI) -> None:
    def one(_: int) -> int:
        reply = openai_client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=8, extra_body={"ignore_eos": True}
        )
        return reply.usage.completion_tokens if reply.usage else 0

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(one, range(24))) == [8] * 24


def test_min_tokens_and_stop_strings(openai_client: openai.OpenAI) -> None:
    reply = openai_client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=64, extra_body={"min_tokens": 40}
    )
    assert reply.usage is not None
    assert reply.usage.completion_tokens >= 40
    stopped = openai_client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=64, stop=["Paris"]
    )
    assert stopped.choices[0].finish_reason == "stop"
    assert "Paris" not in (stopped.choices[0].message.content or "")


def test_seed_repeats_the_text(openai_client: openai.OpenAI, stack: Stack) -> None:
    pin = {"X-Pendra-Worker-Id": stack.processes("worker")[0]["worker_id"]}
    texts = {
        openai_client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            seed=7,
            temperature=1.2,
            max_tokens=24,
            extra_headers=pin,
            extra_body={"cache_prompt": False},
        )
        .choices[0]
        .message.content
        for _ in range(2)
    }
    assert len(texts) == 1


def test_models_are_listed_once(openai_client: openai.OpenAI, pendra_client: pendra.Pendra) -> None:
    assert [m.id for m in openai_client.models.list()] == [MODEL]
    assert [m.id for m in pendra_client.models.list()] == [MODEL]
