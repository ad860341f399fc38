"""From logits to the next token: one native sampler chain (`chain`) a sequence.

Two shortcuts change nothing in the result: plain temperature 0 is one `argmax` over all rows of the step, and a chain
with a top-k is given only the tokens that can reach the top k, not the whole vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from tasks.errors import PendraError
from worker.engine import native
from worker.engine.api import SamplingParams
from worker.engine.chain import Chain, build, effect
from worker.engine.logprobs import score

if TYPE_CHECKING:
    from worker.engine.sequence import Sequence
    from worker.engine.vocab import Vocab

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_NEAR = 6.0
"""First guess how far below the best logit the top k reach; doubled until enough tokens are found."""
_FAR = 96.0
_NONE = Chain(0, ())
NO_TOKEN = -1
_MINUS_INF = np.float32(-np.inf)


class Candidates:
    """The tokens a chain chooses from: one buffer for a whole engine, used by its thread only."""

    def __init__(self, n_vocab: int) -> None:
        self._rows = np.zeros(n_vocab, dtype=_CANDIDATE)
        self._ids = self._rows["id"]
        self._logits = self._rows["logit"]
        self._all = np.arange(n_vocab, dtype=np.int32)
        self._data: Any = ctypes.cast(self._rows.ctypes.data, lib.llama_token_data_p)
        self._array = lib.llama_token_data_array(self._data, n_vocab, -1, False)  # noqa: FBT003  # a C struct
        self._ref = ctypes.byref(self._array)

    def choose(self, chain: int, row: Floats, ids: Ints | None) -> int:
        """The token `chain` takes from `row`; `ids` narrows it down to some tokens."""
        self._apply(chain, self._fill(self._all, row) if ids is None else self._fill(ids, row[ids]))
        return int(self._array.data[self._array.selected].id)  # XTC moves the beginning

    def draw_once(self, sampler: int) -> None:
        """Let a random sampler draw without a choice, to bring its generator forward."""
        self._fill(self._all[:2], np.zeros(2, dtype=np.float32))  # XTC draws only between two
        self._apply(sampler, 2)

    def _fill(self, ids: Ints, logits: Floats) -> int:
        count = len(ids)
        self._ids[:count] = ids
        self._logits[:count] = logits
        return count

    def _apply(self, sampler: int, count: int) -> None:
        array = self._array
        array.data = self._data
        array.size = count
        array.selected = -1
        array.sorted = False
        native.sampler_apply(sampler, self._ref)


class Sampler:
    """One sequence's chain. Created and used by the engine thread; `free` it exactly when the sequence ends."""

    def __init__(self, params: SamplingParams, vocab: Vocab, *, ctx_limit: int) -> None:
        does = effect(params, ctx_limit)
        self._bias = np.array(list(dict(params.logit_bias)), dtype=np.int32)
        self._window = does.window
        self._enough = does.enough
        self.plain = does.greedy
        """The most likely token, whatever came before: needs no chain."""
        made = _NONE if self.plain else build(params, vocab, ctx_limit)
        self._chain, self._draws = made.address, made.draws

    def free(self) -> None:
        """Idempotent."""
        chain, self._chain = self._chain, 0
        if chain:
            native.sampler_free(chain)

    def restore(self, prompt: Seq[int], resumed: Seq[int], candidates: Candidates) -> None:
        """Bring a new chain to where it stands after the prompt and the tokens an earlier attempt generated.

        Not quite so for mirostat, whose state hangs on all logits so far, and XTC, which does not always draw.
        """
        if self._window:
            for token in prompt[-self._window :]:
                native.sampler_accept(self._chain, token)
        for token in resumed:
            if self._chain:
                native.sampler_accept(self._chain, token)
            for sampler in self._draws:
                candidates.draw_once(sampler)

    def choose(self, row: Floats, candidates: Candidates, among: Ints | None = None) -> int:
        """The next token, accepted by the chain. `among`: the only ids that are not -inf, when they are few."""
        if self.plain:
            return int(row.argmax() if among is None else among[row[among].argmax()])
        token = candidates.choose(self._chain, row, self._narrow(row) if among is None else among)
        native.sampler_accept(self._chain, token)
        return token

    def _narrow(self, row: Floats) -> Ints | None:
        """Ids among which the chain's top k surely are (every biased token included); None = all."""
        if not self._enough:
            return None
        best = row.max()
        reach = _NEAR
        while reach <= _FAR:
            ids = np.flatnonzero(row >= best - reach)
            if len(ids) >= self._enough:
                return self._with_biased(ids.astype(np.int32), row, best - reach)
            reach *= 2
        return None

    def _with_biased(self, ids: Ints, row: Floats, floor: np.float32) -> Ints:
        if not len(self._bias):
            return ids
        return np.concatenate([ids, self._bias[row[self._bias] < floor]])


class StepSampler:
    """Chooses the tokens of one step for all its sequences."""

    def __init__(self, vocab: Vocab) -> None:
        self.candidates = Candidates(vocab.size)
        suppressed = np.array(vocab.suppressed, dtype=np.int64)
        self._never = suppressed if len(suppressed) else None
        self._ends = vocab.eog
        self._endings = np.array(sorted(vocab.eog), dtype=np.int64)

    def choose(self, sequences: Seq[Sequence], logits: Floats) -> list[int]:
        """One token each. `logits` has a row a sequence and is written to: forbidden tokens become -inf.

        A sequence that can have no next token (its grammar says so) gets NO_TOKEN and its `error`.
        """
        plain = True
        for seq in sequences:
            if not seq.plain:
                plain = False
                break
        if plain:
            return self._most_likely(sequences, logits)
        return [self._one(seq, logits[index]) for index, seq in enumerate(sequences)]

    def choose_drafted(self, sequences: Seq[Sequence], logits: Floats) -> list[list[int]]:
        """As `choose`, where a sequence has a row for its last token and one for each of its draft's.

        It gets the tokens it would have got one by one: as many as its draft guessed right, and one more.
        """
        chosen, at = [], 0
        for seq in sequences:
            rows = logits[at : at + 1 + len(seq.draft)]
            at += len(rows)
            chosen.append(self._follow(seq, rows))
        return chosen

    def _most_likely(self, sequences: Seq[Sequence], logits: Floats) -> list[int]:
        if self._never is not None:
            logits[:, self._never] = _MINUS_INF
        for index, seq in enumerate(sequences):
            if seq.eog_banned:
                logits[index, self._endings] = _MINUS_INF
        chosen: list[int] = logits.argmax(axis=1).tolist()
        return chosen

    def _follow(self, seq: Sequence, rows: Floats) -> list[int]:
        made: list[int] = []
        for guess, row in zip([*seq.draft, NO_TOKEN], rows, strict=True):
            token = self._one(seq, row, after=len(made))
            made.append(token)
            if token != guess or token in self._ends or (seq.masker is not None and seq.masker.is_done):
                break
        return made

    def _one(self, seq: Sequence, row: Floats, after: int = 0) -> int:
        assert seq.sampler is not None, "a running sequence has a sampler"  # noqa: S101  # typing only
        asked = None if seq.scores is None else row.copy()
        if self._never is not None:
            row[self._never] = _MINUS_INF
        if seq.eog_banned_after(after):
            row[self._endings] = _MINUS_INF
        try:
            among = None if seq.masker is None else seq.masker.mask(row)
            token = seq.sampler.choose(row, self.candidates, among)
            if seq.masker is not None:
                seq.masker.accept(token)
        except PendraError as exc:
            seq.error = exc
            return NO_TOKEN
        if seq.scores is not None and asked is not None:
            seq.scores.add(score(asked, token, seq.scores.top))
        return token
