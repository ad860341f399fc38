"""What goes into the engine and what comes out: plain frozen data, no llama_cpp."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from tasks.contract import Timing, Usage
from tasks.errors import PendraError


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """One sequence's sampling, with llama-server's names and defaults. `temperature` 0 is greedy.

    `repeat_last_n` and `dry_penalty_last_n` -1 mean the whole context. `mirostat` 1 and 2 take the place of all other
    samplers but bias and temperature, as in llama-server. What is allowed is in `limits`.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    samplers: tuple[str, ...] | None = None
    """These and no others, in this order (`chain.SAMPLERS` in any); None = all, in llama-server's order."""


MOST_CHOICES = 16
MOST_TOP_LOGPROBS = 20


class TokenMasker(Protocol):
    """Which tokens may come next in one reply; `worker.engine.grammar.Constraint` is one.

    The engine calls, on its own thread, `mask` before it samples and `accept` after; `prepare` may come between the
    two, from another thread, while nobody else touches the object. What is raised as PendraError ends the reply.
    """

    @property
    def is_done(self) -> bool:
        """Nothing may follow: the reply ends here, without an end token."""

    def prepare(self) -> None:
        """Make the next `mask` quick. Raises nothing."""

    def mask(self, row: Any) -> Any | None:
        """Set forbidden tokens of a float32 row of logits to -inf; returns the ids that are left if they are few."""

    def accept(self, token: int) -> None:
        """`token` was chosen."""

    def clone(self) -> Self:
        """An independent copy at the same place."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Tokens in. `prompt` holds token ids; `resume` the ids an earlier attempt already delivered.

    `max_tokens` counts completion tokens, `resume` included; None = until the context is full.

    `n` choices share the prompt's evaluation; the first takes `resume`, the others in turn `resume_others` (those
    beyond it begin anew). A `seed` is the first choice's, the others count up from it. `logprobs` asks for each shown
    token's log probability and that of so many (0 to 20) alternatives; `prompt_logprobs` for those of the prompt's
    tokens as well: it is evaluated whole then, whatever the cache holds, and even when `max_tokens` is 0. `special`
    shows control tokens as text: all, or these ids; end tokens are never shown. `masker` belongs to the engine from
    `submit` on; it decides where the reply may end, so `min_tokens` and `ignore_eos` do not count then. `speculate`
    False forbids drafts for this request.
    """

    request_id: str
    prompt: tuple[int, ...] = field(repr=False)
    sampling: SamplingParams = SamplingParams()
    stop: tuple[str, ...] = field(default=(), repr=False)
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    cache_prompt: bool = True
    resume: tuple[int, ...] = field(default=(), repr=False)
    resume_others: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: bool = False
    special: bool | frozenset[int] = False
    masker: TokenMasker | None = field(default=None, repr=False, compare=False)
    speculate: bool = True


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's natural log probability and the most likely tokens there, the best first.

    Both by the model's own distribution, before biases, penalties, grammars and temperature, as llama-server has it.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one decode step produced for one request.

    `text` is what may be shown now (never half a character, never part of a stop string); `tokens` are the ids
    consumed since the last output. On the last output `finish_reason`, `usage` and `timing` are set, and `error`
    when it is ERROR.

    `index` is the choice. With several, each has a last output with a `finish_reason`; `usage` and `timing`, of all
    together, come on the last of those. `logprobs` has an entry a token whose text is shown, with the output that
    shows the token's (first) text: none for end tokens nor for tokens that are wholly part of a stop string.
    `prompt_logprobs`, of all the prompt's tokens but the first, come once, for choice 0, before its first token.
    """

    request_id: str
    text: str = field(default="", repr=False)
    tokens: tuple[int, ...] = field(default=(), repr=False)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    error: PendraError | None = None
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for heartbeats and metrics; cheap and safe from any thread."""

    slots_total: int
    slots_busy: int
    waiting: int
    kv_cells_used: int
    kv_cells_total: int
    steps: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0
