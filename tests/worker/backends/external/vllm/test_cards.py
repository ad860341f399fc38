from __future__ import annotations

import pytest

from worker.backends.external.product import NotFoundHere
from worker.backends.external.vllm.cards import cards, parameter_size, served


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "7B"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "8x7B"),
        ("Qwen/Qwen3-30B-A3B", "30B"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "135M"),
        ("openai/gpt-oss-120b", "120B"),
        ("Qwen/Qwen2.5-0.5B", "0.5B"),
        ("google/gemma-3-27b-it", "27B"),
        ("BAAI/bge-m3", None),
        ("microsoft/phi-4", None),
        ("my-model", None),
    ],
)
def test_the_parameter_size_is_read_from_the_id(name, size):
    assert parameter_size(name) == size


def test_a_card_becomes_an_advert():
    card = {"id": "org/Some-7B-AWQ", "owned_by": "vllm", "max_model_len": 4096}
    info = served(card, "chat").info
    assert (info.backend, info.context_length, info.parameter_size, info.quantisation) == ("vllm", 4096, "7B", "AWQ")


def test_an_alias_takes_its_size_from_the_root():
    card = {"id": "assistant", "root": "org/Some-7B", "max_model_len": None}
    info = served(card, "chat").info
    assert (info.parameter_size, info.context_length) == ("7B", None)


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ({"data": [{"id": "m", "owned_by": "llamacpp"}]}, "llama-server"),
        ({"data": [{"id": "m", "owned_by": "x", "task": "text-to-speech"}]}, "Speaches"),
        ({"models": []}, "not a list of models"),
        ({"data": ["m"]}, "not a list of models"),
    ],
)
def test_other_products_are_named(listing, words):
    with pytest.raises(NotFoundHere, match=words):
        cards(listing)
