"""Masks let through what the grammar does, states can be restored, copied and taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from tasks.errors import BadRequestError
from tests.worker.chat.structured.toy_vocab import EOS, PIECES, SPECIAL, babble, tokens_of, toy_vocab
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.schema import compile_schema
from worker.engine.grammar import Constraint, GrammarVocab, MaskAhead
from worker.engine.model import LoadedModel

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GRAMMAR = compile_schema(SCHEMA).grammar()
VOCAB = toy_vocab()


def lark(rules: str) -> str:
    return Compiled(rules).grammar()


def allowed(constraint: Constraint) -> set[int]:
    row = np.zeros(len(PIECES), dtype=np.float32)
    few = constraint.mask(row)
    ids = set(np.flatnonzero(row > -np.inf).tolist())
    assert few is None or set(few.tolist()) == ids
    return ids


def test_only_what_may_follow_keeps_its_logit() -> None:
    constraint = VOCAB.constraint(lark('body: "a" | "ab" | "b" "c"'))
    row = np.arange(len(PIECES), dtype=np.float32)
    constraint.mask(row)
    left = np.flatnonzero(row > -np.inf)
    assert {PIECES[token] for token in left} == {b"a", b"b", b"ab"}
    assert all(row[token] == token for token in left)


def test_a_wide_mask_forbids_the_rest() -> None:
    constraint = VOCAB.constraint(GRAMMAR, tokens_of(b'{"name": "'))
    row = np.zeros(len(PIECES), dtype=np.float32)
    assert constraint.mask(row) is None
    assert row[tokens_of(b"A")[0]] == 0
    assert row[tokens_of(b"\n")[0]] == -np.inf
    assert row[SPECIAL] == -np.inf
    assert row[EOS] == -np.inf


def test_the_end_is_allowed_where_the_grammar_may_end() -> None:
    constraint = VOCAB.constraint(lark('body: "a"+'), tokens_of(b"a"))
    assert constraint.is_accepting
    assert not constraint.is_done
    assert EOS in allowed(constraint)
    assert EOS not in allowed(VOCAB.constraint(lark('body: "a"+')))


def test_done_when_nothing_may_follow() -> None:
    constraint = VOCAB.constraint(lark('body: "ab"'))
    for token in tokens_of(b"ab"):
        assert not constraint.is_done
        constraint.accept(token)
    assert constraint.is_done
    assert constraint.is_accepting
    assert allowed(constraint) == {EOS}


def test_the_state_is_restored_from_token_ids() -> None:
    said = tokens_of(b'{"name": "Ada", "a')
    one = VOCAB.constraint(GRAMMAR)
    for token in said:
        one.accept(token)
    assert allowed(VOCAB.constraint(GRAMMAR, said)) == allowed(one)


def test_a_clone_goes_its_own_way() -> None:
    one = VOCAB.constraint(lark('body: "a" ("b" | "c")'), tokens_of(b"a"))
    other = one.clone()
    one.accept(tokens_of(b"b")[0])
    assert one.is_done
    assert allowed(other) == set(tokens_of(b"bc"))


def test_drafts_are_taken_back() -> None:
    constraint = VOCAB.constraint(GRAMMAR, tokens_of(b'{"name": "A'))
    before = allowed(constraint)
    for token in tokens_of(b'da", '):
        constraint.accept(token)
    constraint.rollback(5)
    assert allowed(constraint) == before


def test_one_token_is_checked_without_a_mask() -> None:
    constraint = VOCAB.constraint(lark('body: "ab"'))
    assert constraint.allows(tokens_of(b"a")[0])
    assert not constraint.allows(tokens_of(b"b")[0])
    assert not constraint.allows(SPECIAL)


def test_a_token_the_grammar_forbids_is_an_error() -> None:
    constraint = VOCAB.constraint(lark('body: "ab"'))
    with pytest.raises(BadRequestError) as caught:
        constraint.accept(tokens_of(b"b")[0])
    assert caught.value.code == "bad_grammar"
    with pytest.raises(BadRequestError):
        VOCAB.constraint(lark('body: "ab"'), tokens_of(b"x"))


def test_a_grammar_that_does_not_compile_is_an_error() -> None:
    with pytest.raises(BadRequestError, match="cannot be compiled"):
        VOCAB.constraint("start: (")


def test_a_grammar_that_leads_nowhere_is_an_error() -> None:
    endless = compile_schema({"$defs": {"n": {"$ref": "#/$defs/n"}}, "$ref": "#/$defs/n"})
    constraint = VOCAB.constraint(endless.grammar())
    with pytest.raises(BadRequestError, match="leads nowhere"):
        constraint.mask(np.zeros(len(PIECES), dtype=np.float32))


def test_errors_do_not_quote_the_text() -> None:
    constraint = VOCAB.constraint(GRAMMAR, tokens_of(b'{"name": "secret'))
    with pytest.raises(BadRequestError) as caught:
        constraint.accept(tokens_of(b"\n")[0])
    assert "secret" not in str(caught.value)


def test_a_model_without_an_end_cannot_follow_grammars() -> None:
    with pytest.raises(BadRequestError, match="no token that ends"):
        GrammarVocab(PIECES, eog=[], special=[])


def test_masks_are_ready_ahead() -> None:
    ahead = MaskAhead()
    constraints = [VOCAB.constraint(GRAMMAR), VOCAB.constraint(GRAMMAR, tokens_of(b'{"name": "'))]
    ahead.start(constraints)
    ahead.wait()
    assert [allowed(constraint) for constraint in constraints] == [
        allowed(VOCAB.constraint(GRAMMAR)),
        allowed(VOCAB.constraint(GRAMMAR, tokens_of(b'{"name": "'))),
    ]
    ahead.start([])
    ahead.wait()
    ahead.close()


@pytest.mark.parametrize("seed", range(5))
def test_random_text_validates(seed: int) -> None:
    text = babble(VOCAB.constraint(GRAMMAR), np.random.default_rng(seed))
    assert text is not None
    jsonschema.validate(json.loads(text), SCHEMA)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[LoadedModel]:
    with LoadedModel(smollm2, n_gpu_layers=0) as loaded:
        yield loaded


def test_a_real_vocabulary(model: LoadedModel) -> None:
    """Random logits over SmolLM2's tokens: what comes out is JSON, told by the model's own bytes."""
    vocab = GrammarVocab.read(lib.llama_model_get_vocab(model.handle), eog=model.eog)
    rng = np.random.default_rng(0)
    for _ in range(3):
        constraint = vocab.constraint(GRAMMAR)
        said = b""
        for _ in range(200):
            if constraint.is_done:
                break
            row = rng.standard_normal(model.n_vocab).astype(np.float32)
            constraint.mask(row)
            token = int(row.argmax())
            if token in model.eog:
                assert constraint.is_accepting
                break
            constraint.accept(token)
            said += model.piece(token)
        assert constraint.is_accepting
        jsonschema.validate(json.loads(said), SCHEMA)


@pytest.mark.parametrize("said", ["", '{"name": "Ada', '{"name": "Ada", "age": 3', '{"name": "', '{"name"'])
def test_masks_are_what_the_grammar_says_token_by_token(model: LoadedModel, said: str) -> None:
    vocab = GrammarVocab.read(lib.llama_model_get_vocab(model.handle), eog=model.eog)
    constraint = vocab.constraint(GRAMMAR, model.tokenize(said, add_special=False))
    row = np.arange(model.n_vocab, dtype=np.float32)
    few = constraint.mask(row)
    left = np.flatnonzero(row > -np.inf)
    assert (row[left] == left).all()
    assert (few is not None) == (said in {"", '{"name"', '{"name": "Ada", "age": 3'})
    assert few is None or few.tolist() == left.tolist()
    some = set(np.random.default_rng(0).integers(0, model.n_vocab, 3000).tolist()) - model.eog
    assert {token for token in some if constraint.allows(token)} == some & set(left.tolist())


def test_markers_are_text_and_other_control_tokens_are_not(model: LoadedModel) -> None:
    pointer = lib.llama_model_get_vocab(model.handle)
    start, end = model.tokenize("<|im_start|><|im_end|>", add_special=False, parse_special=True)
    grammar = lark('body: /(?s:.)*/ "<|im_start|>" "x"')
    plain = GrammarVocab.read(pointer, eog=model.eog)
    assert not plain.constraint(grammar).allows(start)
    marked = GrammarVocab.read(pointer, eog=model.eog, markers=["<|im_start|>", "<|im_end|>"])
    assert marked.constraint(grammar).allows(start)
    assert not marked.constraint(grammar).allows(end)
