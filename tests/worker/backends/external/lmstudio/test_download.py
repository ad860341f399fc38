"""Downloads at the fake LM Studio."""

from __future__ import annotations

import pytest

from tasks.errors import BadRequestError, NotFoundError, WorkerError
from tests.fakes.lmstudio_server import DOWNLOAD_PATH, LLAMA
from worker.backends.external.lmstudio import download
from worker.backends.external.lmstudio.download import wanted

NAME = "ibm/granite-4-micro"


@pytest.fixture
def server(server):
    server.catalogue = {NAME: 1000, "https://huggingface.co/org/granite-GGUF": 10}
    return server


@pytest.fixture
def install(product, http, found):
    async def run(model: str = NAME) -> list[tuple[str, int, int | None]]:
        told: list[tuple[str, int, int | None]] = []
        await product.install(http, found, model, lambda *one: told.append(one))
        return told

    return run


async def test_progress_until_it_is_there(install, server):
    assert await install() == [
        ("resolving", 0, None),
        ("downloading", 0, 1000),
        ("downloading", 400, 1000),
        ("downloading", 800, 1000),
        ("downloading", 1000, 1000),
        ("done", 1000, 1000),
    ]
    assert server.models[-1].id == NAME


async def test_what_is_there_already(install, server):
    assert await install(LLAMA.id) == [("resolving", 0, None), ("done", 0, None)]
    assert server.polls == 0


async def test_looks_that_go_wrong_are_repeated(install, server):
    server.faults.status_misses = 3
    assert (await install())[-1][0] == "done"


async def test_but_not_for_ever(install, server, monkeypatch):
    monkeypatch.setattr(download, "MOST_MISSES", 2)
    server.faults.status_misses = 1000
    with pytest.raises(WorkerError, match="not now"):
        await install()
    assert server.polls == 3


async def test_what_goes_wrong(install, server):
    with pytest.raises(NotFoundError, match="Could not find a model named nobody/x") as unknown:
        await install("nobody/x")
    assert unknown.value.code == "model_not_found"
    server.faults.no_job = True
    with pytest.raises(WorkerError, match="without saying its id"):
        await install()
    server.faults.no_job, server.faults.download_fails = False, True
    with pytest.raises(WorkerError, match="could not download ibm/granite-4-micro") as failed:
        await install()
    assert failed.value.code == "download_failed"


async def test_before_0_4_there_are_no_downloads(install, server, stage):
    server.newer = False
    stage.app = server.app()
    with pytest.raises(BadRequestError, match=r"from version 0\.4 on") as caught:
        await install()
    assert caught.value.code == "install_unsupported"


async def test_a_repository_of_the_hub(install, server):
    await install("hf://org/granite-GGUF/granite-4.0-Q4_K_M.gguf")
    assert server.sent(DOWNLOAD_PATH) == [
        {"model": "https://huggingface.co/org/granite-GGUF", "quantization": "Q4_K_M"}
    ]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("openai/gpt-oss-20b", {"model": "openai/gpt-oss-20b"}),
        ("google/gemma@q4_k_m", {"model": "google/gemma@q4_k_m"}),
        ("hf://org/name", {"model": "https://huggingface.co/org/name"}),
        ("hf://org/name@Q8_0", {"model": "https://huggingface.co/org/name", "quantization": "Q8_0"}),
        ("hf://org/name/config.json", {"model": "https://huggingface.co/org/name"}),
        (
            "https://huggingface.co/org/name@Q8_0",
            {"model": "https://huggingface.co/org/name", "quantization": "Q8_0"},
        ),
    ],
)
def test_what_is_asked_for(model: str, body: dict[str, str]):
    assert wanted(model) == body
