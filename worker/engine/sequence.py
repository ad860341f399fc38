"""One request inside the engine: its tokens, how far they are evaluated, and its times."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.errors import PendraError
from worker.engine.api import FinishReason, GenerationRequest, SamplingParams, TokenMasker
from worker.engine.logprobs import Scores
from worker.engine.prompt_scores import PromptScores
from worker.engine.text import TextAssembler

if TYPE_CHECKING:
    from worker.engine.lookup import Lookup
    from worker.engine.sampling import Sampler

_log = logging.getLogger("pendra.engine")
_NO_ROWS = range(0)


class State(StrEnum):
    """WAITING for a slot, PREFILL evaluates known tokens, DECODE makes new ones, FINISHED has left its slot."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


_MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.PREFILL, State.FINISHED}),
    State.PREFILL: frozenset({State.DECODE, State.WAITING, State.FINISHED}),
    State.DECODE: frozenset({State.WAITING, State.FINISHED}),
    State.FINISHED: frozenset(),
}


class Sequence:
    """Written by the engine thread only.

    `tokens` are prompt, resumed and generated ids in one list; the first `n_past` of them are in the KV cache. A
    decoding sequence has exactly one more token than that. `slot` is its llama.cpp seq id, -1 while it has none.
    """

    __slots__ = (
        "admitted_at",
        "draft",
        "error",
        "fresh",
        "id",
        "index",
        "last_at",
        "leads",
        "limit",
        "lookup",
        "masker",
        "n_cached",
        "n_past",
        "n_prompt",
        "n_resumed",
        "over",
        "piece",
        "plain",
        "prompt_scores",
        "request",
        "sampler",
        "scores",
        "slot",
        "started_at",
        "state",
        "submitted_at",
        "text",
        "tokens",
    )

    def __init__(self, request: GenerationRequest, *, ctx_limit: int, now: float, index: int = 0) -> None:
        self.id = request.request_id
        self.index = index
        self.request = request
        self.state = State.WAITING
        resume = _resume(request, index)
        self.tokens: list[int] = [*request.prompt, *resume]
        self.n_prompt = len(request.prompt)
        self.n_resumed = len(resume)
        self.n_past = 0
        self.n_cached = 0
        self.slot = -1
        self.limit = ctx_limit
        if request.max_tokens is not None:
            self.limit = min(ctx_limit, self.n_prompt + request.max_tokens)
        self.text = TextAssembler(request.stop)
        self.sampler: Sampler | None = None
        self.masker: TokenMasker | None = None
        self.scores = None if request.logprobs is None else Scores(request.logprobs)
        self.prompt_scores = _prompt_scores(request, index)
        """None: nobody asks how likely the prompt is, or it has been told."""
        self.over: FinishReason | None = None
        """Nothing is left to generate: it ends when its prompt is scored."""
        self.plain = False
        """The most likely token is next, whatever came before, and nobody asks how likely it is."""
        self.piece: Callable[[int], bytes] = _no_text
        self.draft: list[int] = []
        """Guesses of the tokens after the last one, to be checked by the coming step."""
        self.lookup: Lookup | None = None
        self.error: PendraError | None = None
        """Why no next token can be chosen."""
        self.leads = False
        """Other choices of the request wait for this one's first token."""
        self.fresh: list[int] = []
        self.submitted_at = now
        self.admitted_at: float | None = None
        self.started_at: float | None = None
        self.last_at: float | None = None

    def move(self, state: State) -> None:
        """The one place a state changes."""
        if state not in _MOVES[self.state]:
            raise AssertionError(f"sequence {self.id}: {self.state} cannot become {state}")
        _log.debug("sequence %s: %s -> %s", self.id, self.state, state)
        self.state = state

    @property
    def pending(self) -> int:
        """Tokens known but not evaluated yet."""
        return len(self.tokens) - self.n_past

    @property
    def may_reuse(self) -> bool:
        """Whether it may begin with what a cache holds."""
        return self.request.cache_prompt and self.prompt_scores is None

    def prompt_rows(self, count: int) -> range:
        """The positions among the next `count` tokens whose logits are wanted for the prompt's scores."""
        return _NO_ROWS if self.prompt_scores is None else self.prompt_scores.rows(self.n_past, count)

    @property
    def n_completion(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def sampling(self) -> SamplingParams:
        """The request's; of several choices each has its own seed."""
        params = self.request.sampling
        if params.seed is None or not self.index:
            return params
        return replace(params, seed=params.seed + self.index)

    @property
    def resumed(self) -> list[int]:
        """What an earlier attempt generated."""
        return self.tokens[self.n_prompt : self.n_prompt + self.n_resumed]

    @property
    def eog_banned(self) -> bool:
        """The next token must not end the reply."""
        return self.eog_banned_after(0)

    def eog_banned_after(self, more: int) -> bool:
        """The same, once so many more tokens are there."""
        if self.masker is not None:
            return False
        return self.request.ignore_eos or self.n_completion + more < self.request.min_tokens

    def add(self, token: int, now: float) -> None:
        """A new token was sampled."""
        self.tokens.append(token)
        self.fresh.append(token)
        self.last_at = now
        if self.started_at is None:
            self.started_at = now

    def take_fresh(self) -> tuple[int, ...]:
        """Ids sampled since the last output; they are handed out once."""
        fresh = tuple(self.fresh)
        self.fresh.clear()
        return fresh

    def restore_text(self) -> None:
        """Bring text and grammar to where the earlier attempt stood; that text was delivered already.

        Raises PendraError when the grammar does not allow what was generated.
        """
        for token in self.resumed:
            self.text.push(self.piece(token))
            if self.masker is not None:
                self.masker.accept(token)

    def over_before_start(self, eog: frozenset[int]) -> FinishReason | None:
        """Why nothing is left to generate, when resumed tokens (or `max_tokens` 0) already end the reply."""
        if self.masker is not None and self.masker.is_done:
            return FinishReason.STOP
        ended = self.n_resumed and self.tokens[-1] in eog and not self.request.ignore_eos
        if self.text.stopped or ended:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(self.tokens) >= self.limit else None


def _resume(request: GenerationRequest, index: int) -> tuple[int, ...]:
    """What an earlier attempt delivered of this choice."""
    delivered = (request.resume, *request.resume_others)
    return delivered[index] if index < len(delivered) else ()


def _prompt_scores(request: GenerationRequest, index: int) -> PromptScores | None:
    """The first choice scores the prompt for all."""
    if index or not request.prompt_logprobs or len(request.prompt) == 1:
        return None
    return PromptScores(request.prompt, request.logprobs or 0)


def _no_text(_token: int) -> bytes:
    raise AssertionError("the sequence is not set up")
