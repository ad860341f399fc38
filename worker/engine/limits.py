"""What each sampling field may hold. Pure; the same words wherever a bad value is found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tasks.errors import BadRequestError
from worker.engine.api import MOST_CHOICES, MOST_TOP_LOGPROBS, GenerationRequest, SamplingParams

INT_MAX = 2**31 - 1
MOST_BREAKERS = 64
MOST_BREAKER_BYTES = 40
"""llama.cpp cuts longer ones off."""
_MOST_LAST = 65536  # llama.cpp allots so many at once


@dataclass(frozen=True, slots=True)
class Limit:
    """A number from `low` to `high`, `low` itself left out when `above`."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        if self.high >= INT_MAX:
            return f"a finite number above {self.low:g}" if self.above else f"a finite number, {self.low:g} or more"
        if self.above:
            return f"a number above {self.low:g}, at most {self.high:g}"
        return f"a number from {self.low:g} to {self.high:g}"


_ANY = Limit(-math.inf, math.inf)
LIMITS: dict[str, Limit] = {
    "temperature": _ANY,
    "top_p": _ANY,
    "min_p": _ANY,
    "typical_p": Limit(0, 1, above=True),
    "top_n_sigma": Limit(-1, 100),
    "repeat_penalty": Limit(0, math.inf, above=True),
    "repeat_last_n": Limit(-1, _MOST_LAST),
    "frequency_penalty": _ANY,
    "presence_penalty": _ANY,
    "xtc_probability": Limit(0, 1),
    "xtc_threshold": Limit(0, 1),
    "dynatemp_range": Limit(0, 100),
    "dynatemp_exponent": Limit(0, 100),
    "dry_multiplier": Limit(0, 100),
    "dry_base": Limit(1, 100),
    "dry_allowed_length": Limit(0, INT_MAX),
    "dry_penalty_last_n": Limit(-1, _MOST_LAST),
    "mirostat": Limit(0, 2),
    "mirostat_tau": Limit(0, 100),
    "mirostat_eta": Limit(0, 1),
}
"""By field of SamplingParams. Fields that are not named here take any number of their type."""


def check_params(params: SamplingParams, n_vocab: int) -> None:
    """Raise BadRequestError, naming the field and what is allowed, for values no sampler can work with."""
    for name, limit in LIMITS.items():
        if getattr(params, name) not in limit:
            words = "a finite number" if limit is _ANY else str(limit)
            raise BadRequestError(f"{name} must be {words}", param=name)
    _check_breakers(params.dry_sequence_breakers)
    for token, bias in params.logit_bias:
        if not 0 <= token < n_vocab:
            message = f"logit_bias names token {token}; this model's tokens are 0 to {n_vocab - 1}"
            raise BadRequestError(message, param="logit_bias")
        if math.isnan(bias):
            raise BadRequestError(f"logit_bias of token {token} is not a number", param="logit_bias")


def check_request(request: GenerationRequest, n_vocab: int) -> None:
    """Raise BadRequestError, naming the field and what is allowed, for a request no engine can work with."""
    resumed = [("resume", tokens) for tokens in (request.resume, *request.resume_others)]
    for param, tokens in [("prompt", request.prompt), *resumed]:
        if tokens and not 0 <= min(tokens) <= max(tokens) < n_vocab:
            message = f"{param} holds token ids outside this model's 0 to {n_vocab - 1}"
            raise BadRequestError(message, param=param)
    if not 1 <= request.n <= MOST_CHOICES:
        raise BadRequestError(f"n must be a whole number from 1 to {MOST_CHOICES}", param="n")
    if request.logprobs is not None and not 0 <= request.logprobs <= MOST_TOP_LOGPROBS:
        raise BadRequestError(
            f"top_logprobs must be a whole number from 0 to {MOST_TOP_LOGPROBS}", param="top_logprobs"
        )
    check_params(request.sampling, n_vocab)


def _check_breakers(breakers: tuple[str, ...]) -> None:
    good = len(breakers) <= MOST_BREAKERS and all(
        text and "\0" not in text and len(text.encode("utf-8", "replace")) <= MOST_BREAKER_BYTES for text in breakers
    )
    if not good:
        message = (
            f"dry_sequence_breakers must be up to {MOST_BREAKERS} texts of 1 to {MOST_BREAKER_BYTES} bytes, "
            "without NUL characters"
        )
        raise BadRequestError(message, param="dry_sequence_breakers")
