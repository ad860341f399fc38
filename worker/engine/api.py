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
    """One sequence's sampling, with llama-server's names and defaults. `temperature` 0 is greedy."""

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
