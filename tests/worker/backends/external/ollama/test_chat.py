"""Chat at the fake Ollama, over real HTTP: whole, streamed, with tools and thinking; and all that goes wrong."""

from __future__ import annotations

import asyncio
import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tasks.contract import Resume
from tasks.errors import BadRequestError, NotFoundError, WorkerError
from tests.fakes.ollama_models import CHAT, THINKER
from tests.fakes.waiting import until
from tests.worker.backends.external.asking import KeptReply, job
from tests.worker.backends.external.ollama.asking import HASTY
from worker.backends.external.ollama.product import Ollama

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


async def test_a_whole_reply(asker, server):
    reply = await asker.ask(job(temperature=0.5, max_tokens=9))
    assert (reply.body["id"], reply.body["object"], reply.body["model"]) == ("chatcmpl-j1", "chat.completion", "m")
    (choice,) = reply.body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello from Ollama\u2028\u0085!", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert reply.body["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 3)
    assert (reply.timing.tokens_per_second, reply.timing.model_load_ms) == (75.0, 2500.0)
    assert reply.timing.ttft_ms
    assert server.sent("/api/chat")[0]["options"] == {"temperature": 0.5, "num_predict": 9, "num_ctx": 8192}


async def test_a_stream(asker):
    reply = await asker.ask(job(stream=True))
    assert reply.deltas[0] == {"role": "assistant", "content": ""}
    assert reply.text == "Hello from Ollama\u2028\u0085!"
    assert {chunk["object"] for chunk in reply.chunks} == {"chat.completion.chunk"}
    assert reply.chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert reply.chunks[-1]["choices"] == []
    assert reply.chunks[-1]["usage"]["completion_tokens"] == 3
    assert set(reply.tokens) == {None}  # no other worker could go on with it
    assert reply.data is None


async def test_openais_own_types_read_it(asker, server):
    server.calls = (("weather", {"city": "Oslo"}),)
    for stream in (True, False):
        reply = await asker.ask(job(stream=stream, tools=TOOLS, logprobs=True), THINKER.name)
        for chunk in reply.chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
    whole = ChatCompletion.model_validate(reply.body, strict=True)
    assert whole.choices[0].message.tool_calls[0].function.name == "weather"


async def test_thinking_is_told_apart_under_both_names(asker, server):
    reply = await asker.ask(job(stream=True), THINKER.name)
    thought = "".join(delta.get("reasoning", "") for delta in reply.deltas)
    assert thought == "Let me think."
    assert thought == "".join(delta.get("reasoning_content", "") for delta in reply.deltas)
    assert reply.text == "Hello from Ollama\u2028\u0085!"
    assert 0 < reply.usage.reasoning_tokens < reply.usage.completion_tokens
    whole = await asker.ask(job(enable_thinking=False), THINKER.name)
    assert "reasoning" not in whole.body["choices"][0]["message"]
    assert server.sent("/api/chat")[-1]["think"] is False


async def test_tool_calls_are_numbered_here(asker, server):
    server.calls = (("weather", {"city": "Oslo"}), ("weather", {"city": "Rome", "days": 2}))
    reply = await asker.ask(job(tools=TOOLS))
    message = reply.body["choices"][0]["message"]
    assert message["content"] is None
    assert [call["id"] for call in message["tool_calls"]] == ["call_00000000", "call_00000001"]
    assert [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]] == [
        {"city": "Oslo"},
        {"city": "Rome", "days": 2},
    ]
    assert reply.body["choices"][0]["finish_reason"] == "tool_calls"
    streamed = await asker.ask(job(stream=True, tools=TOOLS))
    calls = [call for delta in streamed.deltas for call in delta.get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1]
    assert calls[0]["type"] == "function"
    assert streamed.chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    one = await asker.ask(job(tools=TOOLS, parallel_tool_calls=False))
    assert len(one.body["choices"][0]["message"]["tool_calls"]) == 1


async def test_why_it_ended_and_what_to_know_about_it(asker, server):
    server.done_reason = "length"
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    reply = await asker.ask(job(response_format=schema))
    assert reply.body["choices"][0]["finish_reason"] == "length"
    assert reply.notice.code == "truncated_during_structured_output"
    assert server.sent("/api/chat")[-1]["format"] == {"type": "object"}
    server.words = ()
    reply = await asker.ask(job(stream=True), THINKER.name)
    assert reply.notice.code == "truncated_during_reasoning"


async def test_an_empty_reply_is_one(asker, server):
    server.words = ()
    reply = await asker.ask(job(stream=True))
    assert [delta for delta in reply.deltas if delta] == [{"role": "assistant", "content": ""}]
    assert reply.ended


async def test_log_probabilities(asker):
    reply = await asker.ask(job(logprobs=True, top_logprobs=1))
    first = reply.body["choices"][0]["logprobs"]["content"][0]
    assert first == {
        "token": "Hello",
        "logprob": -0.5,
        "bytes": [72],
        "top_logprobs": [{"token": "x", "logprob": -1.5, "bytes": None}],
    }


async def test_what_is_not_counted_is_estimated_and_says_so(asker, server):
    server.faults.no_counts = True
    reply = await asker.ask(job(messages=[{"role": "user", "content": "x" * 40}]))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (10, 3)
    assert reply.body["pendra"] == {"usage": "estimated"}


async def test_pictures_go_along(asker, server):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    await asker.ask(job(messages=[{"role": "user", "content": [picture]}]), THINKER.name)
    assert server.sent("/api/chat")[0]["messages"][0]["images"] == ["iVBORw0KGgo="]


async def test_a_slow_start_is_waited_for(asker, server):
    asker.product = Ollama(HASTY)
    server.faults.start_s = 1.2  # longer than what may pass between two pieces
    assert (await asker.ask(job())).body["choices"]


async def test_a_burst_of_busy_answers_passes(asker, server):
    server.faults.statuses = [503, 503]
    assert (await asker.ask(job(stream=True))).text
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("statuses", "code", "words"),
    [
        ([503] * 3, "backend_unavailable", "Ollama answered HTTP 503: server busy, please try again."),
        ([500], "backend_error", "Ollama answered HTTP 500: llama runner process has terminated"),
    ],
)
async def test_statuses_that_stay(asker, server, statuses, code, words):
    server.faults.statuses = statuses
    error = await asker.refusal(job(stream=True))
    assert isinstance(error, WorkerError)
    assert error.code == code
    assert error.message.startswith(words)


async def test_a_model_that_went_away(asker, server):
    model = await asker.model(CHAT.name)
    server.models.remove(CHAT)
    with pytest.raises(NotFoundError, match="model 'smollm2:135m' not found") as caught:
        await asker.product.serve(asker.http, asker.found, model, job(), KeptReply())
    assert caught.value.code == "model_not_found"


async def test_what_the_server_refuses_is_the_requests_fault(asker):
    error = await asker.refusal(job(tools=TOOLS), "all-minilm:latest")
    assert isinstance(error, BadRequestError)
    assert "does not support chat" in error.message


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("die_after", "broke off in the middle of its reply"),
        ("garble_after", "sent something that is not JSON"),
        ("error_after", "an error was encountered while running the model: CUDA error"),
        ("end_after", "ended its reply in the middle"),
    ],
)
async def test_a_reply_that_breaks(asker, server, fault, words):
    """After the first chunk it fails for the client; before it, and for a whole reply, others may be tried."""
    setattr(server.faults, fault, 1)
    reply = await asker.ask(job(stream=True))
    assert reply.text == "Hello"
    assert reply.error.code == "backend_error"
    assert words in reply.error.message
    assert "ggml" not in reply.error.message
    assert words in (await asker.refusal(job())).message
    setattr(server.faults, fault, 0)
    assert words in (await asker.refusal(job(stream=True))).message


async def test_a_reply_that_falls_silent(asker, server):
    asker.product = Ollama(HASTY)
    server.faults.hang_after = 1
    reply = await asker.ask(job(stream=True))
    assert reply.text == "Hello"
    assert reply.error.message == "Ollama fell silent for 1 s in the middle of its reply"
    assert await asyncio.to_thread(until, server.closed.is_set)


async def test_cancel_closes_the_request(asker, server):
    server.faults.hang_after = 1
    begun = asyncio.Event()

    class Begun(KeptReply):
        def chunk(self, data, tokens=()):
            begun.set()
            return super().chunk(data, tokens)

    reply = Begun()
    task = asyncio.create_task(asker.ask(job(stream=True), reply=reply))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(until, server.closed.is_set)
    assert not reply.ended


async def test_a_job_that_ended_elsewhere_is_left(asker, server):
    class Ended(KeptReply):
        def chunk(self, data, tokens=()):
            super().chunk(data, tokens)
            return False

    reply = await asker.ask(job(stream=True), reply=Ended())
    assert len(reply.chunks) == 1


async def test_only_what_nobody_heard_of_can_be_taken_over(asker):
    begun = job(stream=True).model_copy(update={"resume": Resume(token_ids=(1,))})
    assert "cannot go on" in (await asker.refusal(begun)).message
    opened = job(stream=True).model_copy(update={"resume": Resume()})
    assert (await asker.ask(opened)).deltas[0] == {"content": "Hello"}
