"""One request inside the engine: its tokens, how far they are evaluated, and its times."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.contract import Timing, Usage
from worker.engine.api import FinishReason, GenerationRequest
from worker.engine.text import TextAssembler

if TYPE_CHECKING:
    from worker.engine.sampling import Sampler

_log = logging.getLogger("pendra.engine")


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
        "fresh",
        "id",
        "last_at",
        "limit",
        "n_cached",
        "n_past",
        "n_prompt",
        "n_resumed",
        "n_start",
        "request",
        "sampler",
        "slot",
        "started_at",
        "state",
        "submitted_at",
        "text",
        "tokens",
    )

    def __init__(self, request: GenerationRequest, *, ctx_limit: int, now: float) -> None:
        self.id = request.request_id
        self.request = request
        self.state = State.WAITING
        self.tokens: list[int] = [*request.prompt, *request.resume]
        self.n_prompt = len(request.prompt)
        self.n_resumed = len(request.resume)
        self.n_start = len(self.tokens)
        self.n_past = 0
        self.n_cached = 0
        self.slot = -1
        self.limit = ctx_limit
        if request.max_tokens is not None:
            self.limit = min(ctx_limit, self.n_prompt + request.max_tokens)
        self.text = TextAssembler(request.stop)
        self.sampler: Sampler | None = None
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
    def n_completion(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def eog_banned(self) -> bool:
        """The next token must not end the reply."""
        return self.request.ignore_eos or self.n_completion < self.request.min_tokens

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

    def restore_text(self, pieces: list[bytes]) -> None:
        """Bring the text's hold-back to where the earlier attempt stood; that text was delivered already."""
        for piece in pieces:
            self.text.push(piece)

    def over_before_start(self, eog: frozenset[int]) -> FinishReason | None:
        """Why nothing is left to generate, when resumed tokens (or `max_tokens` 0) already end the reply."""
        ended = self.n_resumed and self.tokens[-1] in eog and not self.request.ignore_eos
        if self.text.stopped or ended:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(self.tokens) >= self.limit else None

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.n_prompt,
            completion_tokens=self.n_completion,
            cached_tokens=min(self.n_cached, self.n_prompt),
        )

    def timing(self) -> Timing:
        return Timing(
            ttft_ms=_ms(self.admitted_at, self.started_at),
            tokens_per_second=self._rate(),
            worker_queue_wait_ms=_ms(self.submitted_at, self.admitted_at),
        )

    def _rate(self) -> float | None:
        made = len(self.tokens) - self.n_start
        if made <= 1 or self.started_at is None or self.last_at is None or self.last_at <= self.started_at:
            return None
        return round((made - 1) / (self.last_at - self.started_at), 2)


def _ms(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else round((until - since) * 1000, 3)
