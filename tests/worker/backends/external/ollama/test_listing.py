"""What is known of the models, and how often the server is asked."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tests.fakes.ollama_models import CHAT, EMBEDDER, PAINTER, THINKER, Model
from tests.fakes.waiting import until
from worker.backends.external.ollama.product import Ollama
from worker.backends.external.product import NotFoundHere


async def test_all_that_the_server_says(server, http, found):
    server.loaded = {CHAT.name}
    models = {model.name: model.info for model in await Ollama().models(http, found)}
    assert models[THINKER.name].model_dump(exclude_none=True) == {
        "id": "qwen3.6:27b",
        "capability": "chat",
        "backend": "ollama",
        "context_length": 262_144,
        "parameter_size": "27B",
        "quantisation": "Q4_K_M",
        "family": "qwen3",
        "size_bytes": 98_362_432,
        "loaded": False,
        "features": ("vision", "tools", "thinking"),
        "fits": True,
    }
    assert models[EMBEDDER.name].capability == "embedding"
    assert models[EMBEDDER.name].context_length == 512
    assert models[PAINTER.name].capability == "image"
    assert models[CHAT.name].loaded


async def test_five_shows_at_once_and_one_a_digest(server, http, found):
    server.models = [Model(f"m{number}:latest") for number in range(12)]
    server.faults.shows_together = 5
    product = Ollama()
    assert len(await product.models(http, found)) == 12
    assert (server.shows, server.most_shows) == (12, 5)
    server.models[0] = Model("new:latest")
    assert len(await product.models(http, found)) == 12
    assert server.shows == 13
    server.models[0] = Model("m0:latest")  # its digest was forgotten when it went
    await product.models(http, found)
    assert server.shows == 14


async def test_what_was_learnt_before_time_ran_out_is_kept(server, http, found):
    server.models = [Model(f"m{number}:latest") for number in range(10)]
    server.faults.show_hangs_after = 5
    product = Ollama()
    task = asyncio.create_task(product.models(http, found))
    await asyncio.to_thread(until, lambda: server.shows == 10)  # five were answered, five hang
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.faults.show_hangs_after = None
    assert len(await product.models(http, found)) == 10
    assert server.shows == 15


async def test_without_show_the_tags_must_do_and_it_is_asked_again(server, http, found):
    server.faults.show_fails = True
    product = Ollama()
    model = next(model for model in await product.models(http, found) if model.name == CHAT.name)
    assert (model.info.capability, model.info.parameter_size, model.info.context_length) == ("chat", "135M", None)
    assert model.info.features is None
    server.faults.show_fails = False
    model = next(model for model in await product.models(http, found) if model.name == CHAT.name)
    assert model.info.context_length == 8192


async def test_old_servers_say_no_capabilities(server, http, found):
    server.models = [Model("old:latest", None), Model("vectors:latest", None, 512, "nomic-bert")]
    chat, vectors = await Ollama().models(http, found)
    assert (chat.info.capability, chat.info.features) == ("chat", None)
    assert vectors.info.capability == "embedding"


async def test_models_of_another_host_are_not_offered(server, http, found):
    server.models = [CHAT, Model("gpt-oss:120b-cloud", remote_host="https://ollama.com:443")]
    assert [model.name for model in await Ollama().models(http, found)] == [CHAT.name]


async def test_models_that_do_nothing_we_offer(server, http, found):
    server.models = [CHAT, Model("ears:latest", ("audio",))]
    assert [model.name for model in await Ollama().models(http, found)] == [CHAT.name]


async def test_a_version_that_draws_offers_its_image_models(server, http, found):
    assert PAINTER.name in [model.name for model in await Ollama().models(http, found)]


class TestAVersionThatCannotDraw:
    @pytest.fixture
    def server(self, server):
        server.draws, server.version = False, "0.33.0"
        return server

    async def test_offers_no_image_models(self, server, http, found):
        names = [model.name for model in await Ollama().models(http, found)]
        assert PAINTER.name not in names
        assert CHAT.name in names


async def test_a_server_that_is_gone(http, found):
    with pytest.raises(NotFoundHere):
        await Ollama().models(http, dataclasses.replace(found, url="http://127.0.0.1:1"))
