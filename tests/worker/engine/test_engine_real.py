"""The engine on the real SmolLM2: words that mean something, a real template, a 49k vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.engine.harness import GREEDY, Harness
from worker.engine.api import FinishReason, GenerationRequest
from worker.engine.config import EngineConfig
from worker.engine.model import LoadedModel

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[LoadedModel]:
    with LoadedModel(smollm2, n_gpu_layers=0) as model:
        yield model


@pytest.fixture
def harness(model: LoadedModel) -> Iterator[Harness]:
    harness = Harness(model, EngineConfig(slots=4, ctx_per_seq=512, threads=2))
    yield harness
    harness.close()


def ask(harness: Harness, request_id: str, question: str, **fields: object) -> None:
    prompt = harness.model.tokenize(CHAT.format(question), parse_special=True)
    harness.engine.submit(GenerationRequest(request_id, tuple(prompt), GREEDY, **fields))


def test_the_model_is_what_it_says(model: LoadedModel) -> None:
    assert (model.n_vocab, model.n_ctx_train) == (49152, 8192)
    assert model.eos_text == "<|im_end|>"
    assert "<|im_start|>" in (model.chat_template or "")
    assert model.tokenize("<|im_end|>", parse_special=True) == [model.vocab.eos]


def test_it_answers_and_ends_by_itself(harness: Harness) -> None:
    ask(harness, "paris", "What is the capital of France? Answer briefly.", max_tokens=64)
    reply = harness.wait("paris")
    assert "Paris" in reply.text
    assert reply.finish is FinishReason.STOP
    assert "<|im_end|>" not in reply.text


def test_twelve_at_once_then_the_first_again(harness: Harness) -> None:
    for number in range(12):
        ask(harness, str(number), f"Name {number + 2} animals.", max_tokens=16, ignore_eos=True)
    replies = [harness.wait(str(number)) for number in range(12)]
    assert {len(reply.tokens) for reply in replies} == {16}
    assert all(reply.text.strip() for reply in replies)
    ask(harness, "again", "Name 13 animals.", max_tokens=16, ignore_eos=True)
    usage = harness.wait("again").last.usage
    assert usage is not None
    assert usage.cached_tokens > 0
