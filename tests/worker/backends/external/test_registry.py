"""All kinds of servers, and what each says that it can do (docs/backends.md)."""

from __future__ import annotations

import pytest

from tasks.contract import JobKind
from tasks.settings_values import BACKENDS
from worker.backends.external.product import ProductName
from worker.backends.external.registry import products

CHAT, EMBED, IMAGE = JobKind.CHAT, JobKind.EMBEDDINGS, JobKind.IMAGE
AUDIO = {JobKind.TRANSCRIPTION, JobKind.SPEECH}


@pytest.mark.parametrize(
    ("name", "port", "kinds", "installs", "uninstalls"),
    [
        (ProductName.OLLAMA, 11434, {CHAT, EMBED, IMAGE}, True, True),
        (ProductName.VLLM, 8000, {CHAT, EMBED}, False, False),
        (ProductName.LMSTUDIO, 1234, {CHAT, EMBED}, True, False),
        (ProductName.SPEACHES, 8000, AUDIO, True, True),
    ],
)
def test_the_row_of_each_product(name, port, kinds, installs, uninstalls):
    (product,) = (product for product in products() if product.name == name)
    assert product.default_port == port
    assert product.kinds - {JobKind.COMPLETION} == kinds
    assert (product.installs, product.uninstalls) == (installs, uninstalls)


def test_every_product_has_a_place_in_the_order():
    assert {str(product.name) for product in products()} == set(BACKENDS) - {"pendra"}
