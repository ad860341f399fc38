"""A vocabulary of a few hundred tokens and a random reader of grammars: what any grammar lets through, cheaply."""

from __future__ import annotations

import numpy as np

from worker.engine.grammar import Constraint, GrammarVocab

_PIECES = (
    '{"',
    '"}',
    '":',
    '", "',
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "12",
    "0.5",
    "name",
    "value",
    "ab",
    "é",
    '"a"',
)
PIECES = (b"</s>", b"<|im_start|>", *(bytes([n]) for n in range(256)), *(piece.encode() for piece in _PIECES))
EOS, SPECIAL = 0, 1
CLOSERS = [i for i, piece in enumerate(PIECES) if piece and set(piece) <= set(b'"}]0,: ') and i > SPECIAL]


def toy_vocab() -> GrammarVocab:
    return GrammarVocab(PIECES, eog=[EOS], special=[SPECIAL])


def tokens_of(data: bytes) -> list[int]:
    """One token a byte."""
    return [byte + 2 for byte in data]


def babble(constraint: Constraint, rng: np.random.Generator, *, limit: int = 400) -> bytes | None:
    """Random tokens the constraint lets through, until it ends; None when it does not within `limit` tokens.

    Tokens that close something are likelier, or strings would never end.
    """
    said = b""
    for _ in range(limit):
        if constraint.is_done:
            return said
        row = rng.standard_normal(len(PIECES)).astype(np.float32)
        row[CLOSERS] += 2
        row[EOS] += 1
        constraint.mask(row)
        token = int(row.argmax())
        assert row[token] > -np.inf
        if token == EOS:
            assert constraint.is_accepting
            return said
        constraint.accept(token)
        said += PIECES[token]
    return None
