"""A real OpenAI-compatible server streams a real model through our backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.llama_server import ALIAS, llama_server
from tests.worker.backends.external.asking import KeptReply, http_client, job
from worker.backends.external.product import Found, Served
from worker.backends.external.vllm import Vllm

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]


@pytest.fixture(scope="module")
def url(smollm2) -> Iterator[str]:
    with llama_server(smollm2) as url:
        yield url


async def found_at(url: str) -> tuple[Found, Served]:
    async with http_client() as http:
        product = Vllm()
        found = await product.probe(http, url)
        (model,) = await product.models(http, found)
    return found, model


async def test_it_is_listed(url):
    found, model = await found_at(url)
    assert found.version.startswith("llama-cpp-python")
    assert (model.info.id, model.info.parameter_size) == (ALIAS, "135M")


@pytest.mark.parametrize("stream", [True, False])
async def test_it_answers(url, stream):
    found, model = await found_at(url)
    reply = KeptReply()
    asked = job(stream=stream, messages=QUESTION, max_tokens=12, temperature=0)
    async with http_client() as http:
        await Vllm().serve(http, found, model, asked, reply)
    text = reply.text if stream else reply.body["choices"][0]["message"]["content"]
    assert "Paris" in text
    assert reply.error is None
    assert reply.usage.prompt_tokens > 5  # it leaves usage out of streams: counted here then
    assert 0 < reply.usage.completion_tokens <= 12
    assert reply.timing.tokens_per_second
