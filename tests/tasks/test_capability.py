"""Who is told that a model cannot do it, and which ones can."""

from __future__ import annotations

import pytest

from tasks.capability import can, objection, sees, shows_images
from tasks.contract import JobKind, ModelInfo

CHAT = ModelInfo(id="llama", backend="vllm")
EYES = ModelInfo(id="llava", backend="ollama", features=("vision",))
BLIND = ModelInfo(id="smol", backend="ollama", features=())
EMBED = ModelInfo(id="minilm", capability="embedding")
DRAW = ModelInfo(id="flux", capability="image", backend="ollama")
ALL = (CHAT, EYES, BLIND, EMBED, DRAW)
PICTURE = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}


@pytest.mark.parametrize(
    ("kind", "model", "words"),
    [
        (JobKind.IMAGE, CHAT, "'llama' is for chat, .* needs one for image; installed ones that can: flux"),
        (JobKind.EMBEDDINGS, CHAT, "installed ones that can: minilm"),
        (JobKind.CHAT, EMBED, "'minilm' is for embedding, .* can: llama, llava, smol"),
        (JobKind.TRANSCRIPTION, CHAT, "needs one for transcription; no installed model does"),
        (JobKind.SPEECH, DRAW, "needs one for speech"),
    ],
)
def test_a_model_of_another_kind_is_refused_and_the_right_ones_named(
    kind: JobKind, model: ModelInfo, words: str
) -> None:
    refused = objection(kind, model.id, (model,), ALL)
    assert refused is not None
    assert (refused.code, refused.status, refused.param) == ("wrong_capability", 400, "model")
    with pytest.raises(type(refused), match=words):
        raise refused


def test_images_go_to_who_sees_or_does_not_say() -> None:
    assert [sees(model) for model in (CHAT, EYES, BLIND, EMBED)] == [True, True, False, False]
    refused = objection(JobKind.CHAT, "smol", (BLIND,), ALL, images=True)
    assert refused is not None
    assert (refused.code, refused.param) == ("unsupported_content", "messages")
    assert "'smol' does not take images; installed ones that can: llava" in refused.message
    assert objection(JobKind.CHAT, "smol", (BLIND, EYES), ALL, images=True) is None
    assert objection(JobKind.CHAT, "smol", (BLIND,), ALL) is None


def test_a_long_list_is_cut() -> None:
    many = [ModelInfo(id=f"e{n:02}", capability="embedding") for n in range(11)]
    refused = objection(JobKind.EMBEDDINGS, "llama", (CHAT,), many)
    assert refused is not None
    assert refused.message.endswith("e07 and 3 more")


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": None}, {"messages": [1, {"content": "x"}, {"content": [1, {"type": []}]}]}, {"prompt": "x"}],
)
def test_odd_bodies_show_no_images(body: dict[str, object]) -> None:
    assert not shows_images(JobKind.CHAT, body)


def test_image_parts_are_seen_in_chats_only() -> None:
    assert shows_images(JobKind.CHAT, PICTURE)
    assert not shows_images(JobKind.EMBEDDINGS, PICTURE)


def test_every_kind_has_its_models() -> None:
    assert all(can(kind, ModelInfo(id="m", capability="nothing")) is False for kind in JobKind)
