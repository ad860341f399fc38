"""The llama backend: what reaches the engine, what comes back, how it ends. On an engine by hand and a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tasks.contract import Job, JobKind, Progress, Resume, Timing, Usage
from tasks.errors import BadRequestError, JobCancelledError, PendraError, UnavailableError, WorkerError
from tests.fakes.backend_parts import DirectPublisher, HandEngine, HandModel, RecordingReply, Served, chat
from tests.fakes.waiting import until
from worker.backends import llama
from worker.backends.base import CancelToken
from worker.backends.llama import LlamaBackend
from worker.chat.reply import ChatReply
from worker.engine.api import FinishReason, StepOutput
from worker.engine.config import EngineConfig
from worker.engine.engine import Engine
from worker.engine.model import LoadedModel


class Bench:
    """A backend on a hand engine, and jobs in flight on it."""

    def __init__(self, **model: object) -> None:
        self.model = HandModel(**model)
        self.publisher = DirectPublisher()
        self.backend = LlamaBackend(self.model, HandEngine, self.publisher)
        self.engine: HandEngine = self.backend._engine

    def begin(self, job: Job, cancel: CancelToken | None = None) -> tuple[RecordingReply, Served]:
        reply = RecordingReply(job)
        before = len(self.engine.requests)
        served = Served(lambda: self.backend.serve(job, reply, cancel or CancelToken()))
        until(lambda: len(self.engine.requests) > before or not served.is_alive())
        return reply, served

    def refused(self, job: Job) -> PendraError:
        reply, served = self.begin(job)
        error = served.done()
        assert isinstance(error, PendraError)
        assert reply.events == []
        assert self.engine.requests == []
        return error


@pytest.fixture
def bench() -> Bench:
    return Bench()


def content(reply: RecordingReply) -> str:
    choices = [json.loads(chunk.data)["choices"] for chunk in reply.chunks]
    return "".join(choice[0]["delta"].get("content") or "" for choice in choices if choice)


# ------------------------------------------------------------------ to the engine


def test_the_request_reaches_the_engine_whole(bench):
    job = chat(attempt=2, max_tokens=9, min_tokens=1, temperature=0, seed=3, stop="x", ignore_eos=True,
               cache_prompt=False, resume=Resume(token_ids=(7, 8)))  # fmt: skip
    _, served = bench.begin(job)
    (request,) = bench.engine.requests
    assert request.request_id == "j1:2"
    assert request.prompt == (1, ord("h"), ord("i"))
    assert (request.sampling.temperature, request.sampling.seed, request.stop) == (0.0, 3, ("x",))
    assert (request.max_tokens, request.min_tokens, request.ignore_eos, request.cache_prompt) == (9, 1, True, False)
    assert request.resume == (7, 8)
    bench.engine.say("j1:2")
    assert served.done() is None


@pytest.mark.parametrize(
    ("template", "adds_bos", "begins"),
    [("hi", True, [1]), ("<s>hi", True, [1]), ("hi", False, []), ("<s>hi", False, [1])],
)
def test_there_is_never_a_second_bos(template, adds_bos, begins):
    bench = Bench(chat_template=template)
    bench.model.vocab.adds_bos = adds_bos
    bench.begin(chat())
    assert list(bench.engine.requests[0].prompt) == [*begins, ord("h"), ord("i")]


def test_a_prompt_that_leaves_no_room_names_both_numbers(bench):
    error = bench.refused(chat(messages=[{"role": "user", "content": "x" * 99}]))
    assert (error.code, error.param) == ("context_length_exceeded", "messages")
    assert "100 tokens, and the context of tiny holds 100 tokens" in error.message


def test_the_largest_prompt_that_fits(bench):
    _, served = bench.begin(chat(messages=[{"role": "user", "content": "x" * 98}], max_tokens=500))
    bench.engine.say("j1:0")
    assert served.done() is None


def test_a_whole_reply_is_made_from_its_beginning_again(bench):
    bench.begin(chat(stream=False, resume=Resume(token_ids=(7, 8))))
    assert bench.engine.requests[0].resume == ()


def test_only_chat_is_served(bench):
    error = bench.refused(chat(kind=JobKind.EMBEDDINGS))
    assert isinstance(error, BadRequestError)
    assert "tiny serves chat; embeddings is not" in error.message


def test_a_bad_request_is_refused_before_the_engine(bench):
    assert bench.refused(chat(temperature="hot")).param == "temperature"
    assert bench.refused(chat(messages=[])).param == "messages"


def test_a_job_cancelled_before_it_began(bench):
    token = CancelToken()
    token.cancel()
    reply, served = bench.begin(chat(), token)
    assert isinstance(served.done(), JobCancelledError)
    assert reply.events == []


# ---------------------------------------------------------------------- and back


def test_a_stream(bench):
    reply, served = bench.begin(chat())
    bench.engine.say("j1:0", "He", "llo")
    assert served.done() is None
    assert content(reply) == "Hello"
    assert [chunk.tokens for chunk in reply.chunks] == [(), (1,), (2,), (), ()]
    assert json.loads(reply.chunks[-1].data)["choices"] == []
    assert reply.finished.data is None
    assert reply.finished.usage == Usage(prompt_tokens=2, completion_tokens=2)
    assert reply.finished.timing == Timing(ttft_ms=1.0)


def test_a_whole_reply(bench):
    reply, served = bench.begin(chat(stream=False))
    bench.engine.say("j1:0", "He", "llo")
    assert served.done() is None
    assert reply.chunks == []
    whole = json.loads(reply.finished.data)
    assert whole["choices"][0]["message"]["content"] == "Hello"
    assert whole["usage"]["total_tokens"] == 4


def test_one_step_of_many_jobs_is_one_publication(bench):
    replies = [bench.begin(chat(job_id=f"j{n}"))[0] for n in range(3)]
    before = bench.publisher.steps
    bench.engine.put(*[StepOutput(f"j{n}:0", "x", (1,)) for n in range(3)])
    assert bench.publisher.steps == before + 1
    assert [content(reply) for reply in replies] == ["x", "x", "x"]


def test_a_quiet_job_shows_that_it_moves(bench, monkeypatch):
    monkeypatch.setattr(llama, "_PROGRESS_EVERY_S", 0.0)
    reply, served = bench.begin(chat(stream=False, max_tokens=4))
    bench.engine.say("j1:0", "a", "b")
    assert served.done() is None
    moved = [(event.stage, event.fraction) for event in reply.events if isinstance(event, Progress)]
    assert moved == [("decode", 0.25), ("decode", 0.5)]


# ----------------------------------------------------- reasoning and tool calls

THINKER = "{{ messages[-1].content }}{# <think> <tool_call> #}"
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
TIME_CALL = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'


def test_reasoning_is_split_off_and_counted():
    bench = Bench(chat_template=THINKER)
    reply, served = bench.begin(chat(stream=False))
    bench.engine.say("j1:0", "<think>", "Hm.", "</think>", "Paris")
    assert served.done() is None
    body = json.loads(reply.finished.data)
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["reasoning"], message["content"]) == ("Hm.", "Hm.", "Paris")
    assert reply.finished.usage.reasoning_tokens == 2
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert reply.finished.notice is None


def test_a_reply_that_only_reasoned_says_why():
    bench = Bench(chat_template=THINKER)
    reply, served = bench.begin(chat())
    bench.engine.put(StepOutput("j1:0", "<think>Hm", (1,)))
    bench.engine.put(StepOutput("j1:0", "", (), FinishReason.LENGTH, Usage(), Timing()))
    assert served.done() is None
    assert reply.finished.notice.code == "truncated_during_reasoning"


def test_tool_calls_are_found_only_where_tools_were_offered():
    for fields, called in (({"tools": [TIME]}, True), ({"tools": [TIME], "tool_choice": "none"}, False), ({}, False)):
        bench = Bench(chat_template=THINKER)
        reply, served = bench.begin(chat(stream=False, **fields))
        bench.engine.say("j1:0", TIME_CALL)
        assert served.done() is None
        choice = json.loads(reply.finished.data)["choices"][0]
        assert choice["finish_reason"] == ("tool_calls" if called else "stop")
        assert choice["message"]["content"] == (None if called else TIME_CALL)


def test_a_plain_model_has_no_parser(bench):
    bench.begin(chat())
    assert type(bench.backend._running["j1:0"]._shaper) is ChatReply


def test_a_resumed_reply_is_where_the_reasoning_was():
    """What was delivered ends in the reasoning; half of its closing tag was held back."""
    bench = Bench(chat_template=THINKER)
    delivered = tuple(map(ord, "<think>Hm.</th"))
    reply, served = bench.begin(chat(resume=Resume(token_ids=delivered), stop="unseen"))
    bench.engine.say("j1:0", "ink>", "Paris")
    assert served.done() is None
    deltas = [choice["delta"] for chunk in reply.chunks for choice in json.loads(chunk.data)["choices"]]
    assert deltas == [{"content": "Paris"}, {}]
    assert reply.finished.usage.reasoning_tokens == len("Hm.</th") + 1


def test_a_bad_tool_is_named(bench):
    assert bench.refused(chat(tools=[{"type": "function", "function": {"name": "a b"}}])).param == (
        "tools[0].function.name"
    )


# -------------------------------------------------------------------- bad endings


def test_cancel_reaches_the_engine(bench):
    token = CancelToken()
    reply, served = bench.begin(chat(), token)
    bench.engine.put(StepOutput("j1:0", "x", (1,)))
    until(lambda: token._callbacks)
    token.cancel()
    assert bench.engine.cancelled == ["j1:0"]
    assert served.done() is None
    assert reply.errors[0].code == "cancelled"


def test_the_engines_error_ends_the_job(bench):
    reply, served = bench.begin(chat())
    oom = WorkerError("no memory", code="out_of_memory")
    bench.engine.put(StepOutput("j1:0", finish_reason=FinishReason.ERROR, error=oom))
    assert served.done() is None
    assert reply.errors == [oom]


def test_a_fault_while_shaping_ends_only_its_own_job(bench, monkeypatch):
    broken, served = bench.begin(chat(job_id="a"))
    fine, _ = bench.begin(chat(job_id="b"))

    def boom(*_: object) -> Iterator[object]:
        raise RuntimeError("secret")

    monkeypatch.setattr(bench.backend._running["a:0"]._shaper, "pieces", boom)
    bench.engine.put(StepOutput("a:0", "x", (1,)), StepOutput("b:0", "x", (1,)))
    assert served.done() is None
    assert broken.errors[0].code == "worker_error"
    assert "secret" not in broken.errors[0].message
    assert bench.engine.cancelled == ["a:0"]
    assert content(fine) == "x"


def test_what_nobody_waits_for_is_ignored(bench):
    bench.engine.put(StepOutput("gone:0", "x", (1,)))


def test_close_frees_the_model_after_the_last_user(bench):
    _, served = bench.begin(chat())
    draining = UnavailableError("unloaded", code="draining")
    ended = StepOutput("j1:0", finish_reason=FinishReason.ERROR, error=draining)
    bench.engine.close = partial(bench.engine.put, ended)
    bench.backend.close()
    bench.backend.close()
    assert served.done() is None
    assert bench.model.closed == 1
    _, late = bench.begin(chat(job_id="late"))
    assert isinstance(late.done(), UnavailableError)


def test_a_model_still_in_use_is_not_freed(bench, monkeypatch):
    monkeypatch.setattr(llama, "_CLOSE_S", 0.01)
    bench.begin(chat())
    bench.backend.close()
    assert bench.model.closed == 0


def test_an_engine_that_does_not_start_frees_the_model():
    model = HandModel()

    def fail(_: object) -> HandEngine:
        raise WorkerError("no room", code="out_of_memory")

    with pytest.raises(WorkerError):
        LlamaBackend(model, fail, DirectPublisher())
    assert model.closed == 1


# ------------------------------------------------------------------- a real model

ASK = {"messages": [{"role": "user", "content": "Name the capital of France in one short sentence."}]}
EXACT = {**ASK, "temperature": 0, "max_tokens": 24, "cache_prompt": False}


@pytest.fixture(scope="module")
def smol(smollm2: Path) -> Iterator[LlamaBackend]:
    config = EngineConfig(slots=2, ctx_per_seq=512, threads=2)
    model = LoadedModel(smollm2, n_gpu_layers=0)
    backend = LlamaBackend(model, lambda on_step: Engine(model, config, on_step), DirectPublisher())
    yield backend
    backend.close()


def run(backend: LlamaBackend, job: Job) -> RecordingReply:
    reply = RecordingReply(job)
    backend.serve(job, reply, CancelToken())
    return reply


def test_smollm2_knows_paris_and_stream_equals_non_stream(smol):
    whole = json.loads(run(smol, chat(stream=False, **EXACT)).finished.data)
    streamed = run(smol, chat(stream=True, **EXACT))
    assert "Paris" in whole["choices"][0]["message"]["content"]
    assert content(streamed) == whole["choices"][0]["message"]["content"]
    assert streamed.finished.usage.openai() == whole["usage"]
    assert whole["usage"]["prompt_tokens"] == 40
    assert streamed.finished.timing.ttft_ms > 0
    delivered = [token for chunk in streamed.chunks for token in chunk.tokens]
    assert len(delivered) == streamed.finished.usage.completion_tokens


def test_a_resumed_stream_continues_the_same_text(smol):
    full = run(smol, chat(**EXACT))
    cut = len(full.chunks) // 2
    first, rest = full.chunks[:cut], full.chunks[cut:]
    token_ids = tuple(token for chunk in first for token in chunk.tokens)
    second = run(smol, chat(**EXACT, attempt=1, resume=Resume(token_ids=token_ids)))
    assert [chunk.tokens for chunk in second.chunks] == [chunk.tokens for chunk in rest]
    assert content(second) == "".join(
        json.loads(chunk.data)["choices"][0]["delta"].get("content") or ""
        for chunk in rest
        if json.loads(chunk.data)["choices"]
    )


def test_a_real_context_overflow(smol):
    with pytest.raises(BadRequestError, match="holds 512 tokens") as caught:
        run(smol, chat(messages=[{"role": "user", "content": "word " * 600}]))
    assert caught.value.code == "context_length_exceeded"


def test_a_real_reply_stops_at_the_context(smol):
    reply = run(smol, chat(stream=False, messages=[{"role": "user", "content": "word " * 440}], ignore_eos=True))
    assert json.loads(reply.finished.data)["choices"][0]["finish_reason"] == "length"
    assert reply.finished.usage.prompt_tokens + reply.finished.usage.completion_tokens == 512


def test_a_real_cancel_frees_the_slot(smol):
    token = CancelToken()
    job = chat(**ASK, max_tokens=400, ignore_eos=True)
    reply = RecordingReply(job)
    served = Served(lambda: smol.serve(job, reply, token))
    until(lambda: len(reply.chunks) > 3)
    token.cancel()
    assert served.done() is None
    assert reply.errors[0].code == "cancelled"
    until(lambda: smol.stats().slots_busy == 0)
