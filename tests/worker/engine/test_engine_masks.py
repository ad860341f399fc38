"""Replies that follow a grammar, or anything else that says which tokens may come next."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.errors import BadRequestError
from tests.fakes import tiny_llama
from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY
from worker.engine.api import FinishReason, SamplingParams
from worker.engine.model import LoadedModel

SEEDED = SamplingParams(temperature=1.0, seed=4)
PROMPT = "The cat and the dog"
LETTER = 300
"""Id of some letter; the next ones are letters too."""


class Cycle:
    """Allows one token at a time, the next one after each; done after `length`."""

    def __init__(self, length: int = 6, *, few: bool = True, at: int = 0) -> None:
        self.length, self.few, self.at = length, few, at

    @property
    def is_done(self) -> bool:
        return self.at >= self.length

    @property
    def expected(self) -> int:
        return LETTER + self.at % 3

    def prepare(self) -> None:
        pass

    def mask(self, row: np.ndarray) -> np.ndarray | None:
        kept = row[self.expected]
        row.fill(-np.inf)
        row[self.expected] = kept
        return np.array([self.expected]) if self.few else None

    def accept(self, token: int) -> None:
        if token != self.expected:
            raise BadRequestError("not in the cycle", code="bad_grammar")
        self.at += 1

    def clone(self) -> Cycle:
        return Cycle(self.length, few=self.few, at=self.at)


CYCLE = [LETTER, LETTER + 1, LETTER + 2] * 2


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED, SamplingParams(temperature=0.7, top_k=0, repeat_penalty=1.2)])
@pytest.mark.parametrize("few", [True, False])
def test_only_allowed_tokens_come_and_the_end_is_known(
    start_engine: StartEngine,
    sampling: SamplingParams,
    few: bool,  # noqa: FBT001  # a parameter
) -> None:
    reply = start_engine().run(PROMPT, sampling=sampling, masker=Cycle(few=few), ignore_eos=True)
    assert (reply.finish, reply.tokens) == (FinishReason.STOP, CYCLE)


def test_others_in_the_same_step_are_free(start_engine: StartEngine) -> None:
    alone = start_engine(slots=1).run(PROMPT).tokens
    harness = start_engine()
    harness.submit("free", PROMPT)
    harness.submit("bound", PROMPT, masker=Cycle(24))
    assert harness.wait("free").tokens == alone
    assert harness.wait("bound").tokens == CYCLE * 4


def test_a_resumed_reply_goes_on_in_its_grammar(start_engine: StartEngine) -> None:
    reply = start_engine().run(PROMPT, masker=Cycle(), resume=tuple(CYCLE[:4]))
    assert (reply.finish, reply.tokens) == (FinishReason.STOP, CYCLE[4:])
    done = start_engine().run(PROMPT, masker=Cycle(), resume=tuple(CYCLE))
    assert (done.finish, done.tokens) == (FinishReason.STOP, [])


def test_a_resumed_reply_that_its_grammar_does_not_allow_is_an_error(start_engine: StartEngine) -> None:
    reply = start_engine().run(PROMPT, masker=Cycle(), resume=(LETTER + 2,))
    assert reply.finish is FinishReason.ERROR
    assert reply.error is not None
    assert reply.error.code == "bad_grammar"


class Broken(Cycle):
    def mask(self, row: np.ndarray) -> np.ndarray | None:
        if self.at == 2:
            raise BadRequestError("leads nowhere", code="bad_grammar")
        return super().mask(row)


def test_a_grammar_that_leads_nowhere_ends_its_reply_and_no_other(start_engine: StartEngine) -> None:
    harness = start_engine()
    harness.submit("free", PROMPT)
    harness.submit("broken", PROMPT, masker=Broken())
    broken = harness.wait("broken")
    assert (broken.finish, broken.tokens) == (FinishReason.ERROR, CYCLE[:2])
    assert harness.wait("free").finish is FinishReason.LENGTH


def test_preempted_replies_keep_their_place(start_engine: StartEngine) -> None:
    harness = start_engine(slots=3, n_ctx=256)
    for name in "abc":
        harness.submit(name, PROMPT, masker=Cycle(150), max_tokens=None)
    for name in "abc":
        assert harness.wait(name).tokens == CYCLE * 25


def test_every_choice_follows_it(start_engine: StartEngine) -> None:
    reply = start_engine().run(PROMPT, masker=Cycle(), n=3, sampling=SEEDED)
    assert [choice.tokens for choice in reply.choices.values()] == [CYCLE] * 3


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED])
def test_a_real_grammar(start_engine: StartEngine, tiny: LoadedModel, sampling: SamplingParams) -> None:
    grammar = pytest.importorskip("worker.engine.grammar")
    pieces = [tiny.piece(token) for token in range(tiny.n_vocab)]
    control = [tiny_llama.UNK, tiny_llama.BOS, tiny_llama.IM_START]
    vocab = grammar.GrammarVocab(pieces, eog=tiny.eog, special=control)
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    text = json.dumps({"grammars": [{"json_schema": {**schema, "additionalProperties": False}}]})
    harness = start_engine()
    replies = [harness.run(PROMPT, sampling=sampling, masker=vocab.constraint(text), max_tokens=60) for _ in range(2)]
    for reply in replies:
        if reply.finish is FinishReason.STOP:  # else white space went on for ever
            assert isinstance(json.loads(reply.text)["ok"], bool)
        else:
            assert reply.text.lstrip()[:1] == "{"
