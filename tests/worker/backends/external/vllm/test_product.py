"""Against the fake vLLM server, over real HTTP."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from tasks.contract import JobKind
from tasks.errors import BadRequestError
from tests.fakes.serving import serving
from tests.fakes.vllm_server import VllmServer
from tests.worker.backends.external.asking import KeptReply, http_client, job
from worker.backends.external.product import Found, NotFoundHere, ProductName
from worker.backends.external.vllm import Vllm

SPEACHES_LIST = {"data": [{"id": "x", "task": "text-to-speech"}]}


async def test_it_is_found_with_its_version():
    with serving(VllmServer().app()) as url:
        async with http_client() as http:
            found = await Vllm().probe(http, url)
    assert (found.product, found.url, found.version) == (ProductName.VLLM, url, "0.15.1")
    assert found.latency_ms > 0


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ({"/version": HTMLResponse("<html></html>")}, "HTML page"),
        ({"/version": JSONResponse({"version": "1"})}, "404"),
        ({"/version": JSONResponse({"release": "1"})}, "without a version"),
        ({"/version": JSONResponse({"version": "1"}), "/v1/models": JSONResponse(SPEACHES_LIST)}, "Speaches"),
    ],
)
async def test_what_is_there_instead_is_named(routes, words):
    app = Starlette(routes=[Route(path, lambda _, answer=answer: answer) for path, answer in routes.items()])
    with serving(app) as url:
        async with http_client() as http:
            with pytest.raises(NotFoundHere, match=words):
                await Vllm().probe(http, url)


@pytest.mark.parametrize("documented", [True, False])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(("task", "capability"), [("generate", "chat"), ("embed", "embedding")])
async def test_what_a_server_can_do_is_learned_from_it(documented, old, task, capability):
    server = VllmServer(task=task, documented=documented, old=old)
    with serving(server.app()) as url:
        async with http_client() as http:
            product = Vllm()
            found = await product.probe(http, url)
            for _ in range(2):
                (model,) = await product.models(http, found)
    assert (model.info.capability, model.info.context_length, model.info.parameter_size) == (capability, 32768, "7B")
    assert model.info.ready
    assert len(server.requests) <= 1  # asked once


async def test_it_chats():
    server, reply = VllmServer(), KeptReply()
    with serving(server.app()) as url:
        async with http_client() as http:
            product = Vllm()
            found = await product.probe(http, url)
            (model,) = await product.models(http, found)
            await product.serve(http, found, model, job(stream=True, enable_thinking=False), reply)
    assert reply.text == "Hello from vLLM"
    assert server.requests[-1]["chat_template_kwargs"] == {"enable_thinking": False}


async def test_it_draws_no_images():
    with serving(VllmServer().app()) as url:
        async with http_client() as http:
            product = Vllm()
            found = await product.probe(http, url)
            (model,) = await product.models(http, found)
            with pytest.raises(BadRequestError) as caught:
                await product.serve(http, found, model, job(JobKind.IMAGE, prompt="x"), KeptReply())
    assert caught.value.code == "wrong_capability"


async def test_it_is_managed_externally():
    found = Found(ProductName.VLLM, "http://x")
    async with http_client() as http:
        with pytest.raises(BadRequestError, match="managed externally") as caught:
            await Vllm().install(http, found, "org/m", lambda *_: None)
        assert caught.value.code == "install_unsupported"
        with pytest.raises(BadRequestError, match="managed externally") as caught:
            await Vllm().uninstall(http, found, "org/m")
        assert caught.value.code == "uninstall_unsupported"
