"""What chats and completions ask for alike, read from their bodies. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from worker.engine.api import SamplingParams
from worker.generate.biases import Bias
from worker.generate.fields import GenerationFields, sampling_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """`max_tokens` None = until the context is full. `logprobs`: how many alternatives a token, None = none of it."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    biases: tuple[Bias, ...] = field(default=(), repr=False)
    stop: tuple[str, ...] = field(default=(), repr=False)
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    cache_prompt: bool = True
    stream: bool = False
    n: int = 1
    logprobs: int | None = None


def asked_alike(body: GenerationFields) -> dict[str, Any]:
    """The fields of `TextRequest`, each with its value."""
    return {
        "sampling": sampling_of(body),
        "biases": body.logit_bias or (),
        "stop": body.stop or (),
        "max_tokens": body.limit,
        "min_tokens": body.min_tokens or 0,
        "ignore_eos": bool(body.ignore_eos),
        "cache_prompt": body.cache_prompt is not False,
        "stream": bool(body.stream),
        "n": body.choices,
        "logprobs": body.alternatives,
    }
