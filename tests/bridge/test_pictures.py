"""The fleet's models that can see are named to whoever sent a picture to one that cannot."""

from __future__ import annotations

import pytest

from bridge.fleet import WorkerView
from bridge.pictures import finished_words
from tasks.contract import Failed, ModelInfo
from tasks.errors import BadRequestError
from tests.bridge.builders import worker
from worker.chat.request import parse_chat


def refusal(kind: str) -> Failed:
    """As a worker's own reader words it."""
    content = [{"type": kind, kind: {"url": "data:,"}}]
    with pytest.raises(BadRequestError) as caught:
        parse_chat({"messages": [{"role": "user", "content": content}]})
    error = caught.value
    return Failed(job_id="j", attempt=0, seq=1, code=error.code, message=error.message, param=error.param)


def fleet(*models: ModelInfo) -> list[WorkerView]:
    view = WorkerView(worker(), 0.0)
    view.take_in(worker().model_copy(update={"models": models}))
    return [view]


def seeing(model_id: str) -> ModelInfo:
    return ModelInfo(id=model_id, features=("vision",))


def test_models_that_take_images_are_named() -> None:
    words = finished_words(refusal("image_url"), fleet(seeing("llava:7b"), ModelInfo(id="m"), seeing("gemma3:4b")))
    assert words.endswith("reads text only; installed models that take images: gemma3:4b, llava:7b")


def test_only_a_few_are_named() -> None:
    words = finished_words(refusal("image_url"), fleet(*(seeing(f"v{n}") for n in range(7))))
    assert words.endswith("v0, v1, v2, v3, v4 and 2 more")


def test_none_is_said_too() -> None:
    assert finished_words(refusal("image_url"), fleet(ModelInfo(id="m"))).endswith(
        "no installed model is known to take images"
    )


def test_other_errors_keep_their_words() -> None:
    for event in (refusal("input_audio"), refusal("image_url").model_copy(update={"code": "bad_request"})):
        assert finished_words(event, fleet(seeing("v"))) == event.message
