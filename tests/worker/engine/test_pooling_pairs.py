"""How a query and a document become one input."""

from __future__ import annotations

from dataclasses import dataclass, field

import gguf
import pytest

from tests.fakes.tiny_bert import write_tiny_bert
from worker.engine.model import LoadedModel
from worker.engine.pooling_pairs import PairTokens


@dataclass
class Templated:
    """A real vocabulary, and a file that says how it wants its pairs."""

    model: LoadedModel
    metadata: dict[str, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("rank") / "rank.gguf"
    with LoadedModel(write_tiny_bert(path, pooling=gguf.PoolingType.RANK).path, n_gpu_layers=0) as loaded:
        yield loaded


def ids(model: LoadedModel, text: str) -> tuple[int, ...]:
    return tuple(model.tokenize(text, add_special=False, parse_special=True))


def test_a_vocabulary_with_separators(model):
    assert PairTokens(model).tokens("the cat", "a mat") == ids(model, "[CLS]the cat[SEP]a mat")


def test_text_cannot_forge_a_separator(model):
    sep = ids(model, "[SEP]")[0]
    assert PairTokens(model).tokens("the [SEP] cat", "a [SEP]").count(sep) == 1


def test_the_files_own_template(model):
    template = "[CLS] q: {query} d: {document}. {document} [SEP]"
    pairs = PairTokens(Templated(model, {"tokenizer.chat_template.rerank": template}))
    assert pairs.tokens("cat", "a mat") == ids(model, "[CLS] q: cat d: a mat. a mat [SEP]")


def test_a_query_that_looks_like_a_template_stays_a_query(model):
    pairs = PairTokens(Templated(model, {"tokenizer.chat_template.rerank": "{query} / {document}"}))
    assert pairs.tokens("{document}", "{query}") == ids(model, "{document} / {query}")


@pytest.mark.parametrize(("arch", "expected"), [("bert", False), ("qwen3", True), ("qwen3vl", True)])
def test_which_scores_are_probabilities_already(model, arch, expected):
    assert PairTokens(Templated(model, {"general.architecture": arch})).probabilities is expected
