"""From logits to the next token: one native sampler chain a sequence, in llama-server's order.

logit bias, penalties, top-k, top-p, min-p, temperature, draw; temperature 0 takes the most likely token. Two
shortcuts change nothing in the result: plain temperature 0 is one `argmax` over all rows of the step, and a chain
with a top-k is given only the tokens that can reach the top k, not the whole vocabulary.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from tasks.errors import BadRequestError
from worker.engine import native
from worker.engine.api import SamplingParams

if TYPE_CHECKING:
    from worker.engine.sequence import Sequence
    from worker.engine.vocab import Vocab

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_NEAR = 6.0
"""First guess how far below the best logit the top k reach; doubled until enough tokens are found."""
_FAR = 96.0
_MAX_TOP_K = 1024
_RANDOM = lib.LLAMA_DEFAULT_SEED
_MINUS_INF = np.float32(-np.inf)


def check_params(params: SamplingParams, n_vocab: int) -> None:
    """Raise BadRequestError for values that no sampler can work with."""
    for name in ("temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty"):
        if not math.isfinite(getattr(params, name)):
            raise BadRequestError(f"{name} must be a finite number", param=name)
    if params.repeat_penalty <= 0:
        raise BadRequestError("repeat_penalty must be greater than 0", param="repeat_penalty")
    for token, bias in params.logit_bias:
        if not 0 <= token < n_vocab:
            message = f"logit_bias names token {token}; this model's tokens are 0 to {n_vocab - 1}"
            raise BadRequestError(message, param="logit_bias")
        if math.isnan(bias):
            raise BadRequestError(f"logit_bias of token {token} is not a number", param="logit_bias")


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
        return int(self._ids[self._array.selected])

    def draw_once(self, sampler: int) -> None:
        """Let a random sampler draw without a choice, to bring its generator forward."""
        self._fill(self._all[:1], np.zeros(1, dtype=np.float32))
        self._apply(sampler, 1)

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
        self._biases = dict(params.logit_bias)  # llama.cpp treats a token named twice now this way, now that
        self._bias = np.array(list(self._biases), dtype=np.int32)
        self._penalises = _penalises(params)
        self.plain = params.temperature <= 0 and not self._penalises and not params.logit_bias
        """The most likely token, whatever came before: needs no chain."""
        self.last_n = ctx_limit if params.repeat_last_n < 0 else params.repeat_last_n
        self._enough = _enough(params, self._penalises * self.last_n)
        self._dist = 0
        self._chain = 0 if self.plain else self._build(params, vocab)

    def free(self) -> None:
        """Idempotent."""
        chain, self._chain = self._chain, 0
        if chain:
            native.sampler_free(chain)

    def restore(self, prompt: Seq[int], resumed: Seq[int], candidates: Candidates) -> None:
        """Bring a new chain to where it stands after the prompt and the tokens an earlier attempt generated."""
        if self._penalises and self.last_n:
            for token in prompt[-self.last_n :]:
                native.sampler_accept(self._chain, token)
        for token in resumed:
            if self._chain:
                native.sampler_accept(self._chain, token)
            if self._dist:
                candidates.draw_once(self._dist)

    def choose(self, row: Floats, candidates: Candidates) -> int:
        """The next token, accepted by the chain."""
        if self.plain:
            return int(row.argmax())
        token = candidates.choose(self._chain, row, self._narrow(row))
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

    def _build(self, params: SamplingParams, vocab: Vocab) -> int:
        chain_params = lib.llama_sampler_chain_default_params()
        chain_params.no_perf = True
        chain = lib.llama_sampler_chain_init(chain_params)
        for sampler in self._samplers(params, vocab):
            lib.llama_sampler_chain_add(chain, sampler)
        return _address(chain)

    def _samplers(self, params: SamplingParams, vocab: Vocab) -> list[Any]:
        samplers: list[Any] = []
        if self._biases:
            pairs = [lib.llama_logit_bias(token, bias) for token, bias in self._biases.items()]
            biases = (lib.llama_logit_bias * len(pairs))(*pairs)
            samplers.append(lib.llama_sampler_init_logit_bias(vocab.size, len(biases), biases))
        if self._penalises:
            penalties = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
            samplers.append(lib.llama_sampler_init_penalties(vocab.size, self.last_n, *penalties))
        if params.temperature <= 0:
            return [*samplers, lib.llama_sampler_init_greedy()]
        dist = lib.llama_sampler_init_dist(_RANDOM if params.seed is None else params.seed & 0xFFFFFFFF)
        self._dist = _address(dist)
        return [
            *samplers,
            lib.llama_sampler_init_top_k(params.top_k),
            lib.llama_sampler_init_top_p(params.top_p, 0),
            lib.llama_sampler_init_min_p(params.min_p, 0),
            lib.llama_sampler_init_temp(params.temperature),
            dist,
        ]


class StepSampler:
    """Chooses the tokens of one step for all its sequences."""

    def __init__(self, vocab: Vocab) -> None:
        self.candidates = Candidates(vocab.size)
        suppressed = np.array(vocab.suppressed, dtype=np.int64)
        self._never = suppressed if len(suppressed) else None
        self._endings = np.array(sorted(vocab.eog), dtype=np.int64)

    def choose(self, sequences: Seq[Sequence], logits: Floats) -> list[int]:
        """One token each. `logits` has a row a sequence and is written to: forbidden tokens become -inf."""
        if self._never is not None:
            logits[:, self._never] = _MINUS_INF
        plain = True
        for index, seq in enumerate(sequences):
            if seq.eog_banned:
                logits[index, self._endings] = _MINUS_INF
            plain = plain and seq.sampler is not None and seq.sampler.plain
        if plain:
            chosen: list[int] = logits.argmax(axis=1).tolist()
            return chosen
        return [self._one(seq, logits[index]) for index, seq in enumerate(sequences)]

    def _one(self, seq: Sequence, row: Floats) -> int:
        assert seq.sampler is not None, "a running sequence has a sampler"  # noqa: S101  # typing only
        return seq.sampler.choose(row, self.candidates)


def _penalises(params: SamplingParams) -> bool:
    if params.repeat_last_n == 0:
        return False
    return params.repeat_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0


def _enough(params: SamplingParams, penalised: int) -> int:
    """How many of the best tokens surely contain the top k, however penalties and biases move them; 0 = unknown.

    Penalties only push down, so with as many spare tokens as can be pushed the top k is among them.
    """
    top_k = 1 if params.temperature <= 0 else params.top_k
    raises = params.repeat_penalty < 1 or params.frequency_penalty < 0 or params.presence_penalty < 0
    if not 0 < top_k <= _MAX_TOP_K or penalised > _MAX_TOP_K or (penalised and raises):
        return 0
    return top_k + penalised + len(params.logit_bias)


def _address(pointer: Any) -> int:
    return int(ctypes.cast(pointer, ctypes.c_void_p).value or 0)
