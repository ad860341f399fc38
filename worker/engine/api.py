"""What goes into the engine and what comes out: plain frozen data, no llama_cpp."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Tokens in. `prompt` holds token ids; `resume` the ids an earlier attempt already delivered.

    `max_tokens` counts completion tokens, `resume` included; None = until the context is full.
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


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one decode step produced for one request.

    `text` is what may be shown now (never half a character, never part of a stop string); `tokens` are the ids
    consumed since the last output. On the last output `finish_reason`, `usage` and `timing` are set, and `error`
    when it is ERROR.
    """

    request_id: str
    text: str = field(default="", repr=False)
    tokens: tuple[int, ...] = field(default=(), repr=False)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    error: PendraError | None = None


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
