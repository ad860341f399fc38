"""The small pure parts: frames in, SSE out, headers, silence, the mailbox, affinity."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pendra._placement import decode_worker_name

from bridge.protocol import ChunkEvent, ChunkFrame, Models, ResultFrame, encode
from bridge.replies import chunk_event, chunk_frame
from ops.controlplane.config import Limits, Timers
from ops.controlplane.errors import Problem, http_body, http_headers, in_band, problem_of
from ops.controlplane.handshake import REASON_BYTES, close_reason
from ops.controlplane.jobs import Ask, Job
from ops.controlplane.mailbox import Mailbox, Sign
from ops.controlplane.reply import header_text
from ops.controlplane.requests import parse_ask
from ops.controlplane.silence import Verdict, judge, timeout_words
from ops.controlplane.sse import chunk_head, payload, server_timing, timing_block
from ops.controlplane.wire import decode
from tasks.contract import JobKind, Timing
from tasks.errors import BadRequestError, BusyError

# ---------------------------------------------------------------- wire


def test_chunk_frames_of_every_spelling_decode_alike() -> None:
    data = '{"content":"é \\" \\\\ \\u2028"}'
    by_hand = chunk_frame([chunk_event("j", 3, data)])
    by_model = encode(ChunkFrame(events=(ChunkEvent(job_id="j", seq=3, data=data),)))
    reordered = json.dumps({"events": [{"seq": 3, "data": data, "job_id": "j", "new": 1}], "type": "chunk"})
    for text in (by_hand, by_model, reordered):
        assert decode(text) == [("j", 3, data)]
    assert decode(encode(Models())) == Models()


@pytest.mark.parametrize(
    "events", ["3", "[3]", '[{"job_id":"j","seq":1}]', '[{"job_id":"j","seq":true,"data":""}]', "null", "[[]]"]
)
def test_bad_chunk_frames(events: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        decode(f'{{"type":"chunk","events":{events}}}')
    assert caught.value.code == "bad_frame"


# ---------------------------------------------------------------- sse


def test_a_payload_is_always_one_event() -> None:
    assert payload('{"a":\n "b"\r}') == b'data: {"a":  "b" }\n\n'
    assert payload('"é"') == 'data: "é"\n\n'.encode()


def test_the_trailers_head_is_the_workers() -> None:
    ours: dict[str, Any] = {"fallback_id": "f", "kind_object": "chat.completion.chunk", "created": 1, "model": "m"}
    assert chunk_head('{"id":"w","created":2,"model":"n","object":"o"}', **ours) == {
        "id": "w",
        "object": "o",
        "created": 2,
        "model": "n",
    }
    for odd in (None, "", "[1]", '{"id": 3, "created": "x"}', "{"):
        assert chunk_head(odd, **ours)["id"] == "f"
        assert chunk_head(odd, **ours)["created"] == 1


def result(**fields: Any) -> ResultFrame:
    return ResultFrame(job_id="j", seq=1, worker_id="w", **fields)


def test_timings_are_whole_and_waits_add_up() -> None:
    timing = Timing(ttft_ms=1.6, tokens_per_second=1.2345, worker_queue_wait_ms=2.0, cold_start=True)
    assert timing_block(result(queue_wait_ms=3.0, timing=timing)) == {
        "ttft_ms": 2,
        "tokens_per_second": 1.23,
        "queue_wait_ms": 5,
        "worker_queue_wait_ms": 2,
        "cold_start": True,
    }
    assert timing_block(result()) == {}
    assert (
        server_timing(result(timing=timing), 9.04) == "worker-queue;dur=2.0, ttft;dur=1.6, total;dur=9.0, cold-start"
    )


# ---------------------------------------------------------------- headers and errors


@pytest.mark.parametrize("name", ["plain", "Büro", "日本", "a\nb", " padded", "UTF-8''fake", "50 %"])
def test_worker_names_survive_a_header(name: str) -> None:
    sent = header_text(name)
    assert sent.isascii()
    assert sent.isprintable()
    assert decode_worker_name(sent) == name


def test_error_headers() -> None:
    assert http_headers(problem_of(BusyError("x", retry_after=0.2)))["retry-after"] == "1"
    assert http_headers(problem_of(BusyError("x")))["retry-after"] == "1"
    assert "retry-after" not in http_headers(Problem(400, "bad_request", "x"))


def test_a_refusal_says_which_place_it_would_have_had() -> None:
    problem = problem_of(BusyError("x", position=7))
    assert http_headers(problem)["x-pendra-queue-position"] == "7"
    assert http_body(problem)["error"]["queue_position"] == 7
    assert "queue_position" not in http_body(Problem(429, "queue_full", "x"))["error"]


@pytest.mark.parametrize(
    ("text", "priority"),
    [("", "interactive"), ("interactive", "interactive"), (" Batch ", "batch")],
)
def test_a_header_says_how_urgent_a_request_is(text: str, priority: str) -> None:
    raw = b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
    ask = parse_ask(JobKind.CHAT, raw, {"x-pendra-priority": text}, secret="s")
    assert ask.priority == priority


def test_an_unknown_priority_is_refused() -> None:
    raw = b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
    with pytest.raises(BadRequestError, match="interactive or batch"):
        parse_ask(JobKind.CHAT, raw, {"x-pendra-priority": "now"}, secret="s")


def test_in_band_errors_leave_out_what_is_unknown() -> None:
    error = in_band(Problem(502, "worker_lost", "gone"), "req_1")["error"]
    assert error == {
        "message": "gone",
        "type": "server_error",
        "code": 502,
        "error_code": "worker_lost",
        "param": None,
        "request_id": "req_1",
    }


def test_a_close_reason_fits_a_control_frame() -> None:
    cut = close_reason("é" * 100)
    assert len(cut.encode()) <= REASON_BYTES
    assert cut == "é" * 61


# ---------------------------------------------------------------- silence

TIMERS, LIMITS = Timers(), Limits()


def job(kind: JobKind = JobKind.CHAT, *, stream: bool = True) -> Job:
    ask = Ask(kind=kind, model="m", stream=stream, body={})
    return Job("req_1", ask, bridge=("k", "w"), key_id="key", created=0, now=0.0)


def test_silence_of_a_stream() -> None:
    open_job = job()
    assert judge(open_job, 80.0, TIMERS, LIMITS) is Verdict.FINE
    assert judge(open_job, 80.1, TIMERS, LIMITS) is Verdict.KEEP_ALIVE
    open_job.nudged = 80.1
    assert judge(open_job, 90.0, TIMERS, LIMITS) is Verdict.FINE
    assert judge(open_job, 90.2, TIMERS, LIMITS) is Verdict.KEEP_ALIVE
    assert judge(open_job, 100.1, TIMERS, LIMITS) is Verdict.TIMED_OUT
    open_job.heard = 90.0
    assert judge(open_job, 100.1, TIMERS, LIMITS) is Verdict.KEEP_ALIVE


def test_a_worker_may_take_its_time_for_a_whole_reply() -> None:
    open_job = job(stream=False)
    assert judge(open_job, 101.0, TIMERS, LIMITS) is Verdict.TIMED_OUT
    open_job.worker_id = "w"
    assert judge(open_job, 101.0, TIMERS, LIMITS) is Verdict.KEEP_ALIVE
    assert judge(open_job, 601.0, TIMERS, LIMITS) is Verdict.TIMED_OUT
    assert "worker 'w'" in timeout_words(open_job, TIMERS)


def test_other_kinds_have_a_limit_in_all() -> None:
    embedding, image = job(JobKind.EMBEDDINGS), job(JobKind.IMAGE)
    embedding.heard = image.heard = 60.0
    assert judge(embedding, 60.1, TIMERS, LIMITS) is Verdict.TIMED_OUT
    assert judge(image, 600.0, TIMERS, LIMITS) is Verdict.KEEP_ALIVE
    assert judge(image, 600.1, TIMERS, LIMITS) is Verdict.TIMED_OUT
    assert timeout_words(embedding, TIMERS) == "the request took longer than 60 s, the limit for embeddings"


def test_a_reader_that_stalls() -> None:
    open_job = job()
    open_job.heard = 101.0
    open_job.mailbox.put(b"x")
    assert judge(open_job, 100.0, TIMERS, LIMITS) is Verdict.KEEP_ALIVE
    assert judge(open_job, 100.1, TIMERS, LIMITS) is Verdict.READER_TOO_SLOW
    open_job.mailbox.take_now()
    open_job.mailbox.put(b"x" * (LIMITS.unread_bytes + 1))
    assert judge(open_job, 1.0, TIMERS, LIMITS) is Verdict.READER_TOO_SLOW


# ---------------------------------------------------------------- mailbox


async def test_the_reader_gets_everything_in_order() -> None:
    box = Mailbox()
    reading = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.put(b"a")
    box.put(b"b")
    assert await reading == [b"a", b"b"]
    assert box.unread == 0
    box.put(Sign.GONE)
    assert await box.take() == [Sign.GONE]


async def test_a_cancelled_reader_loses_nothing() -> None:
    box = Mailbox()
    reading = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    reading.cancel()
    box.put(b"a")
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await box.take() == [b"a"]


# ---------------------------------------------------------------- affinity


def affinity(*messages: tuple[str, str], keyed: str = "s", model: str = "m") -> str | None:
    body = {"model": model, "messages": [{"role": role, "content": text} for role, text in messages]}
    return parse_ask(JobKind.CHAT, json.dumps(body).encode(), {}, secret=keyed).affinity


def test_completions_with_one_beginning_share_an_affinity_that_shows_nothing_of_it() -> None:
    def of(prompt: object) -> str | None:
        body = {"model": "m", "prompt": prompt}
        return parse_ask(JobKind.COMPLETION, json.dumps(body).encode(), {}, secret="s").affinity

    document = "the same long document " * 100
    assert of(document + "first question") == of(document + "second question")
    assert of("another") != of(document)
    assert of([1, 2, 3]) == of([1, 2, 3]) != of([1, 2])
    assert "document" not in str(of("document"))


def test_turns_of_one_conversation_have_one_affinity() -> None:
    opening = [("system", "be brief"), ("user", "hi")]
    first = affinity(*opening)
    assert first
    assert affinity(*opening, ("assistant", "hello"), ("user", "more")) == first
    assert affinity(("system", "be long"), ("user", "hi")) != first
    assert affinity(*opening, keyed="other") != first
    assert affinity(*opening, model="n") != first
