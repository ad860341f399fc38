"""Against the fake vLLM server, over real HTTP."""

from __future__ import annotations

import asyncio

import pytest

from tasks.contract import JobKind, Resume, Usage
from tasks.errors import BadRequestError, NotFoundError, PendraError, WorkerError
from tests.fakes.serving import serving
from tests.fakes.vllm_server import Faults, VllmServer
from tests.fakes.waiting import until
from tests.worker.backends.external.asking import KeptReply, http_client, job
from worker.backends.external.openai.client import OpenAIClient
from worker.backends.external.product import Found, ProductName
from worker.backends.external.upstream import Patience

QUICK = Patience(first_s=5.0, idle_s=0.5, pauses_s=(0.01, 0.02))
CLIENT = OpenAIClient(patience=QUICK, alive_every_s=0.02)


@pytest.fixture
def server() -> VllmServer:
    return VllmServer()


async def ask(server: VllmServer, url: str, asked, reply: KeptReply | None = None) -> KeptReply:
    reply = reply or KeptReply()
    async with http_client() as http:
        await CLIENT.serve(http, Found(ProductName.VLLM, url), server.model, asked, reply)
    return reply


async def test_a_whole_reply_is_in_our_name(server, url):
    reply = await ask(server, url, job(temperature=0.5))
    assert (reply.body["model"], reply.body["id"], reply.body["created"]) == ("m", "chatcmpl-j1", 7)
    assert reply.body["choices"][0]["message"]["content"] == "Hello from vLLM"
    assert reply.usage == Usage(prompt_tokens=11, completion_tokens=3, cached_tokens=4)
    assert reply.body["usage"]["total_tokens"] == 14
    assert reply.timing.tokens_per_second
    assert server.requests[0] | {"model": server.model, "stream": False, "temperature": 0.5} == server.requests[0]


async def test_a_stream_says_usage_last_and_who_nobody_else_could_be(server, url):
    reply = await ask(server, url, job(stream=True))
    assert reply.text == "Hello from vLLM"
    assert {chunk["model"] for chunk in reply.chunks} == {"m"}
    assert reply.chunks[-1]["choices"] == []
    assert reply.chunks[-1]["usage"]["completion_tokens"] == 3
    assert not any("usage" in chunk for chunk in reply.chunks[:-1])
    assert reply.deltas[0] == {"role": "assistant", "content": ""}
    assert set(reply.tokens) == {None}
    assert reply.timing.ttft_ms is not None
    assert server.requests[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_reasoning_has_both_names(server, url, old, stream):
    server.old, server.thoughts = old, ("so", " ho")
    reply = await ask(server, url, job(stream=stream))
    if stream:
        thoughts = [delta for delta in reply.deltas if "reasoning" in delta]
        assert [(d["reasoning"], d["reasoning_content"]) for d in thoughts] == [("so", "so"), (" ho", " ho")]
    else:
        message = reply.body["choices"][0]["message"]
        assert message["reasoning"] == message["reasoning_content"] == "so ho"


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_and_vision_parts_pass_through(server, url, stream):
    server.tool_call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = job(stream=stream, messages=[{"role": "user", "content": [picture]}], tools=[{"type": "function"}])
    reply = await ask(server, url, asked)
    assert server.requests[0]["messages"] == asked.body["messages"]
    assert server.requests[0]["tools"] == asked.body["tools"]
    said = reply.deltas if stream else [reply.body["choices"][0]["message"]]
    assert [call["function"]["name"] for part in said for call in part.get("tool_calls", [])] == ["f"]


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_that_the_server_leaves_out_is_estimated_and_says_so(server, url, stream):
    server.faults.no_usage = True
    reply = await ask(server, url, job(stream=stream, messages=[{"role": "user", "content": "x" * 40}]))
    last = reply.chunks[-1] if stream else reply.body
    assert last["usage"]["prompt_tokens"] == 10
    assert last["usage"]["completion_tokens"] == (3 if stream else 4)
    assert last["pendra"] == {"usage": "estimated"}


async def test_embeddings(server):
    server.task = "embed"
    with serving(server.app()) as url:
        reply = await ask(server, url, job(JobKind.EMBEDDINGS, input=["a", "b"]))
    assert [row["embedding"] for row in reply.body["data"]] == [[0.5, -0.5, 0], [0.5, -0.5, 1]]
    assert reply.body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert "stream" not in server.requests[0]


async def test_completions(server, url):
    reply = await ask(server, url, job(JobKind.COMPLETION, prompt="a"))
    assert (reply.body["object"], reply.body["choices"][0]["text"]) == ("text_completion", "Hello from vLLM")


async def test_a_burst_of_errors_is_waited_out_before_the_first_byte(server, url):
    server.faults.statuses = [503, 502]
    assert (await ask(server, url, job())).body["choices"]
    assert len(server.requests) == 3


async def test_errors_name_backend_status_and_message_and_no_trace(server, url):
    server.faults.statuses = [500, 500, 500]
    with pytest.raises(WorkerError) as caught:
        await ask(server, url, job())
    assert caught.value.code == "backend_error"
    assert caught.value.message == "vLLM answered HTTP 500: EngineCore encountered an issue."


async def test_an_unknown_model_is_a_404(server, url):
    with pytest.raises(NotFoundError, match="does not exist"):
        async with http_client() as http:
            await CLIENT.serve(http, Found(ProductName.VLLM, url), "other", job(), KeptReply())


async def test_what_the_server_says_of_the_request_never_quotes_it(server, url):
    with pytest.raises(BadRequestError) as caught:
        await ask(server, url, job(JobKind.COMPLETION, secret="the patient"))
    assert "Field required" in caught.value.message
    assert "patient" not in caught.value.message


async def test_a_prompt_that_is_too_long_has_its_code(server, url):
    server.max_model_len = 5
    with pytest.raises(BadRequestError) as caught:
        await ask(server, url, job())
    assert caught.value.code == "context_length_exceeded"


async def test_nobody_there():
    with pytest.raises(WorkerError) as caught:
        await ask(VllmServer(), "http://127.0.0.1:9", job())
    assert caught.value.code == "backend_unavailable"


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(die_after=2), "broke off"),
        (Faults(garble_after=2), "not JSON"),
        (Faults(error_after=2), "EngineCore died"),
        (Faults(hang_after=2), "fell silent"),
    ],
)
async def test_a_stream_that_breaks_after_its_first_token_fails_in_band(server, url, faults, words):
    server.faults = faults
    reply = await ask(server, url, job(stream=True))
    assert reply.text == "Hello"
    assert reply.error is not None
    assert words in reply.error.message
    assert "Traceback" not in reply.error.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [0, 1])
async def test_a_stream_that_breaks_before_its_first_token_raises(server, url, number):
    server.faults.die_after = number
    reply = KeptReply()
    with pytest.raises(PendraError):
        await ask(server, url, job(stream=True), reply)
    assert not reply.chunks
    assert not reply.ended


async def test_a_stream_without_done_but_with_its_finish_is_whole(server, url):
    server.faults.no_done = True
    reply = await ask(server, url, job(stream=True))
    assert reply.ended
    assert reply.error is None


async def test_a_slow_start_is_bridged_by_signs_of_life(server, url):
    server.faults.start_s = 0.2
    assert "waiting" in (await ask(server, url, job())).stages


async def test_cancelling_closes_the_request(server, url):
    server.faults.hang_after = 2
    reply = KeptReply()
    slow = OpenAIClient(patience=Patience(idle_s=30))
    async with http_client() as http:
        found = Found(ProductName.VLLM, url)
        running = asyncio.create_task(slow.serve(http, found, server.model, job(stream=True), reply))
        await asyncio.to_thread(until, lambda: reply.chunks)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(server.closed.wait, 5)


async def test_a_reply_another_worker_began_is_not_gone_on_with(server, url):
    with pytest.raises(WorkerError, match="cannot go on"):
        await ask(server, url, job(stream=True).model_copy(update={"resume": Resume(token_ids=(1,))}))
    reply = await ask(server, url, job(stream=True).model_copy(update={"resume": Resume()}))
    assert {"role": "assistant", "content": ""} not in reply.deltas
