"""Images at the fake Ollama."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError
from tests.fakes.ollama_models import PAINTER
from tests.fakes.ollama_shapes import PIXEL
from tests.worker.backends.external.asking import KeptReply, job

MODEL = PAINTER.name


def image(*, stream: bool = False, **body: Any) -> Job:
    return job(JobKind.IMAGE, stream=stream, **{"prompt": "a robot that learns to paint", **body})


async def test_openais_shape_and_progress_by_steps(asker, server):
    reply = await asker.ask(image(size="1024x768", seed=5, n=2), MODEL)
    assert reply.body == {"created": 7, "data": [{"b64_json": PIXEL}, {"b64_json": PIXEL}]}
    first, second = server.sent("/api/generate")
    assert (first["width"], first["height"], first["options"]) == (1024, 768, {"seed": 5})
    assert second["options"] == {"seed": 6}
    assert reply.stages.count("drawing") == 8


async def test_the_least(asker, server):
    await asker.ask(image(size="auto"), MODEL)
    assert server.sent("/api/generate") == [
        {"model": MODEL, "prompt": "a robot that learns to paint", "stream": True}
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"size": "big"}, "size"),
        ({"size": "5000x100"}, "size"),
        ({"n": 11}, "n"),
        ({"response_format": "url"}, "response_format"),
    ],
)
async def test_what_is_refused(asker, body, param):
    error = await asker.refusal(image(**body), MODEL)
    assert (error.status, error.param) == (400, param)


async def test_images_come_whole(asker):
    assert (await asker.refusal(image(stream=True), MODEL)).param == "stream"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("die_after", "broke off"),
        ("error_after", "failed while it drew: an error was encountered"),
        ("end_after", "without an image"),
    ],
)
async def test_an_image_that_breaks_off(asker, server, fault, words):
    setattr(server.faults, fault, 2)
    error = await asker.refusal(image(), MODEL)
    assert error.code == "backend_error"
    assert words in error.message


async def test_a_server_that_was_updated_since_the_last_look(asker, server):
    model = await asker.model(MODEL)
    server.draws = False
    with pytest.raises(BadRequestError, match="not currently supported"):
        await asker.product.serve(asker.http, asker.found, model, image(), KeptReply())
