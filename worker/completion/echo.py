"""A prompt as the reply repeats it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.contract import JsonObject
from worker.engine.api import TokenLogprob
from worker.generate.logprobs import LegacyLogprobs, Pieces


@dataclass(frozen=True, slots=True)
class Echo:
    """`tokens`: those that `text` is made of; `before`: how many the model read before them (a BOS it was given)."""

    text: str = field(repr=False)
    tokens: tuple[int, ...] = field(default=(), repr=False)
    before: int = 0


def echoed_logprobs(echo: Echo, scores: Sequence[TokenLogprob], pieces: Pieces) -> JsonObject:
    """The prompt's tokens in the legacy shape. `scores`: of all tokens that the model read but the first, which has
    null for want of anything before it."""
    shown = [None, *scores][echo.before :]
    return LegacyLogprobs(pieces).prompt(echo.tokens, shown, drop=_added(echo, pieces))


def _added(echo: Echo, pieces: Pieces) -> int:
    """Bytes of the first token that were not sent: some vocabularies put a blank before a text."""
    return int(bool(echo.tokens) and pieces(echo.tokens[0]).startswith(b" ") and not echo.text.startswith(" "))
