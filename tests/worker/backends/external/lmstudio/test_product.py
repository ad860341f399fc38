"""LM Studio at its fake, over real HTTP: found, listed, asked; and all that goes wrong."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest

from tasks.contract import JobKind
from tasks.errors import BadRequestError, NotFoundError, PendraError, WorkerError
from tests.fakes.lmstudio_server import CHAT_PATH, EMBED_PATH, GEMMA, LLAMA, NOMIC, Model
from tests.fakes.ollama_server import OllamaServer
from tests.fakes.vllm_server import VllmServer
from tests.fakes.waiting import until
from tests.worker.backends.external.asking import KeptReply, job
from worker.backends.external.product import NotFoundHere, ProductName


async def ask(product, http, found, asked, model: str = LLAMA.id, reply: KeptReply | None = None) -> KeptReply:
    reply = reply or KeptReply()
    models = await product.models(http, found)
    served = next(one for one in models if one.name == model)
    await product.serve(http, found, served, asked, reply)
    return reply


@pytest.fixture
def asking(product, http, found):
    async def run(asked, model: str = LLAMA.id, reply: KeptReply | None = None) -> KeptReply:
        return await ask(product, http, found, asked, model, reply)

    return run


@pytest.fixture
def refusal(asking):
    async def run(asked, model: str = LLAMA.id) -> PendraError:
        reply = KeptReply()
        with pytest.raises(PendraError) as caught:
            await asking(asked, model, reply)
        assert not reply.chunks
        assert not reply.ended
        return caught.value

    return run


# ------------------------------------------------------------------ found, listed


async def test_it_is_recognised(product, http, url):
    found = await product.probe(http, url)
    assert (found.product, found.url) == (ProductName.LMSTUDIO, url)
    assert found.latency_ms > 0


@pytest.mark.parametrize("other", [OllamaServer(), VllmServer()])
async def test_other_products_are_not_it(product, http, stage, other):
    stage.app = other.app()
    with pytest.raises(NotFoundHere, match="GET /api/v0/models answered HTTP 404"):
        await product.probe(http, stage.url)


async def test_status_200_alone_is_nothing(product, http, server, stage):
    app = server.app()
    app.router.routes = app.router.routes[-1:]  # only the route for what it does not know
    stage.app = app
    with pytest.raises(NotFoundHere, match="JSON that is not LM Studio's"):
        await product.probe(http, stage.url)


async def test_all_that_the_server_says(product, http, found):
    models = {model.name: model.info for model in await product.models(http, found)}
    assert models[GEMMA.id].model_dump(exclude_none=True) == {
        "id": "google/gemma-4-26b-a4b",
        "capability": "chat",
        "backend": "lmstudio",
        "context_length": 4096,  # it is loaded with this
        "parameter_size": "8B",
        "quantisation": "Q4_K_M",
        "family": "gemma4",
        "size_bytes": 4_000_000_000,
        "loaded": True,
        "features": ("vision", "thinking"),
        "fits": True,
    }
    assert models[LLAMA.id].context_length == 131_072
    assert models[LLAMA.id].features == ("tools",)
    assert models[NOMIC.id].capability == "embedding"


async def test_before_0_4_the_older_list_must_do(product, http, server, stage, found):
    server.newer = False
    stage.app = server.app()
    models = {model.name: model.info for model in await product.models(http, found)}
    assert (models[GEMMA.id].size_bytes, models[GEMMA.id].features) == (None, ("vision",))
    assert models[LLAMA.id].features == ("tools",)


async def test_types_that_we_do_not_offer(product, http, server, found):
    server.models = [LLAMA, Model("voice", "tts")]
    assert [model.name for model in await product.models(http, found)] == [LLAMA.id]


# ------------------------------------------------------------------ chat


@pytest.mark.parametrize("stream", [True, False])
async def test_chat(asking, server, stream):
    reply = await asking(job(stream=stream, temperature=0.5, enable_thinking=True))
    text = reply.text if stream else reply.body["choices"][0]["message"]["content"]
    assert text == "Hello from LM Studio"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (24, 3)
    (sent,) = server.sent(CHAT_PATH)
    assert (sent["model"], sent["temperature"], sent["stream"]) == (LLAMA.id, 0.5, stream)
    assert "enable_thinking" not in sent
    if stream:
        assert reply.chunks[-1]["usage"]["total_tokens"] == 27
        assert set(reply.tokens) == {None}


@pytest.mark.parametrize("stream", [True, False])
async def test_thinking_and_how_it_is_turned_off(asking, server, stream):
    server.thoughts = ("Let me", " think.")
    reply = await asking(job(stream=stream), GEMMA.id)
    told = reply.deltas if stream else [reply.body["choices"][0]["message"]]
    for name in ("reasoning", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in told) == "Let me think."
    assert reply.usage.reasoning_tokens == 2
    await asking(job(stream=stream, enable_thinking=False), GEMMA.id)
    assert server.sent(CHAT_PATH)[-1]["reasoning_effort"] == "none"


async def test_what_lm_studio_says_otherwise(asking, server):
    await asking(job(response_format={"type": "json_object"}, max_completion_tokens=9, max_tokens=3))
    sent = server.sent(CHAT_PATH)[0]
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "object", "schema": {"type": "object"}},
    }
    assert sent["max_tokens"] == 9
    schema = {"type": "json_object", "schema": {"type": "array"}}
    await asking(job(response_format=schema))
    assert server.sent(CHAT_PATH)[1]["response_format"]["json_schema"]["schema"] == {"type": "array"}


async def test_pictures_pass_and_addresses_do_not(asking, refusal, server):
    def shown(url: str):
        return job(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])

    await asking(shown("data:image/png;base64,iVBORw0KGgo="), GEMMA.id)
    error = await refusal(shown("http://169.254.169.254/"), GEMMA.id)
    assert (error.code, error.param) == ("unsupported_content", "messages[0].content[0]")
    assert len(server.sent(CHAT_PATH)) == 1


# ------------------------------------------------------------------ embeddings


async def test_embeddings_are_ordered_cut_encoded_and_counted_here(asking, server):
    asked = job(JobKind.EMBEDDINGS, input=["a" * 8, "b" * 4], encoding_format="base64", dimensions=2)
    reply = await asking(asked, NOMIC.id)
    first, second = (np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in reply.body["data"])
    assert first == pytest.approx(np.array([8.0, 2.0]) / np.hypot(8, 2))
    assert second == pytest.approx(np.array([4.0, 2.0]) / np.hypot(4, 2))
    assert reply.body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert server.sent(EMBED_PATH) == [{"model": NOMIC.id, "input": ["a" * 8, "b" * 4]}]


async def test_embeddings_of_token_ids(refusal):
    assert (await refusal(job(JobKind.EMBEDDINGS, input=[1, 2]), NOMIC.id)).param == "input"


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("kind", [JobKind.IMAGE, JobKind.TRANSCRIPTION, JobKind.RERANK])
async def test_what_it_does_not_do(refusal, kind):
    assert (await refusal(job(kind))).code == "wrong_capability"


async def test_a_slow_start_and_a_burst_of_busy_answers(asking, server):
    server.faults.start_s, server.faults.statuses = 0.1, [503, 502]
    assert (await asking(job(stream=True))).text


async def test_a_failure_that_stays_without_its_stack_trace(refusal, server):
    server.faults.statuses = [500]
    error = await refusal(job())
    assert isinstance(error, WorkerError)
    assert error.message == "LM Studio answered HTTP 500: Failed to load model"


async def test_a_model_that_went_away(product, http, server, found):
    served = next(one for one in await product.models(http, found) if one.name == LLAMA.id)
    server.models.remove(LLAMA)
    with pytest.raises(NotFoundError, match="No models loaded") as caught:
        await product.serve(http, found, served, job(), KeptReply())
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("fault", ["die_after", "garble_after", "error_after"])
async def test_a_reply_that_breaks(asking, refusal, server, fault):
    setattr(server.faults, fault, 1)
    reply = await asking(job(stream=True))
    assert reply.text == "Hello"
    assert reply.error.code == "backend_error"
    setattr(server.faults, fault, 0)
    assert (await refusal(job(stream=True))).code == "backend_error"


async def test_cancel_closes_the_request(asking, server):
    begun = asyncio.Event()

    class Begun(KeptReply):
        def chunk(self, data, tokens=()):
            begun.set()
            return super().chunk(data, tokens)

    server.faults.hang_after = 1
    task = asyncio.create_task(asking(job(stream=True), reply=Begun()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(until, server.closed.is_set)


async def test_uninstall_says_where(product, http, found):
    with pytest.raises(BadRequestError, match="remove it in the LM Studio app") as caught:
        await product.uninstall(http, found, LLAMA.id)
    assert caught.value.code == "uninstall_unsupported"
