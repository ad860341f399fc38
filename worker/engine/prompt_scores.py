"""How likely a prompt's own tokens are (`echo` with `logprobs`), told while its chunks are evaluated. Pure numpy.

Each such token takes a row of logits, of which a step has few (`EngineConfig.outputs`): such a prompt is evaluated in
small chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.engine.api import TokenLogprob
from worker.engine.logprobs import Floats, score

if TYPE_CHECKING:
    from worker.engine.sequence import Sequence


class PromptScores:
    """The scores of one prompt so far, all its tokens but the first, which has nothing before it."""

    __slots__ = ("_prompt", "_top", "made")

    def __init__(self, prompt: tuple[int, ...], top: int) -> None:
        self._prompt = prompt
        self._top = top
        self.made: list[TokenLogprob] = []

    @property
    def done(self) -> bool:
        return len(self.made) >= len(self._prompt) - 1

    def rows(self, past: int, count: int) -> range:
        """The positions whose logits are still wanted, among `count` tokens from position `past` on."""
        return range(max(past, len(self.made)), min(past + count, len(self._prompt) - 1))

    def most(self, past: int, pending: int, rows: int) -> int:
        """How many of `pending` tokens from position `past` on may be evaluated when there are so many rows."""
        end = max(past, len(self.made)) + rows
        return pending if end >= len(self._prompt) - 1 else min(pending, end - past)

    def add(self, logits: Floats) -> None:
        """The rows of the positions that `rows` told, in their order."""
        for row in logits:
            self.made.append(score(row, self._prompt[len(self.made) + 1], self._top))


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of a step's logits are for: prompts that are scored, and a row for each sampled sequence."""

    scored: list[tuple[Sequence, PromptScores, slice]] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)


def rows_of(parts: Iterable[tuple[Sequence, int]]) -> Rows:
    """Of the step with these parts (`Plan.parts`), before it is committed."""
    rows, at = Rows(), 0
    for seq, count in parts:
        wanted = len(seq.prompt_rows(count))
        if seq.prompt_scores is not None and wanted:
            rows.scored.append((seq, seq.prompt_scores, slice(at, at + wanted)))
        at += wanted
        if count == seq.pending:
            rows.sampled.append(at)
            at += 1
    return rows
