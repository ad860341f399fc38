"""The fields that chats and completions share: sampling as llama-server names it, lengths, ends, streaming. Pure.

Unknown fields are ignored, as OpenAI's own clients expect of a server. None stands for "not given", as they send it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.contract import JsonObject
from worker.engine.api import MOST_CHOICES, MOST_TOP_LOGPROBS, SamplingParams
from worker.engine.limits import LIMITS, MOST_BREAKER_BYTES, MOST_BREAKERS
from worker.generate.biases import WORDS as BIASES
from worker.generate.biases import read_biases
from worker.generate.samplers import WORDS as ORDERS
from worker.generate.samplers import read_samplers

MOST_STOPS = 16
UNLIMITED = -1
_INT64 = 2**63
_SEEDS = 2**32
_INT = 2**31


def of(allowed: str, **limits: Any) -> Any:
    """A field whose error says what is allowed."""
    return Field(default=None, description=allowed, **limits)


def _stops(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _limited(name: str) -> Any:
    """A field that may hold what the engine's limits say."""
    limit = LIMITS[name]
    low = {"gt": limit.low} if limit.above else {"ge": limit.low}
    return of(str(limit), **low, le=limit.high)


Number = Annotated[float, Field(allow_inf_nan=False)]
_Stop = Annotated[str, Field(min_length=1, max_length=1024)]
_Breaker = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
_PENALTY_LAST = "a whole number from 0 to 65536; -1 = the whole context"


class GenerationFields(BaseModel):
    """Read strictly: no text is a number, no number a switch."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    temperature: Number | None = of("a number from 0 to 5", ge=0, le=5)
    top_p: Number | None = of("a number from 0 to 1", ge=0, le=1)
    min_p: Number | None = of("a number from 0 to 1", ge=0, le=1)
    top_k: int | None = of("a whole number; 0 or -1 = all tokens", ge=-1, lt=_INT)
    typical_p: Number | None = _limited("typical_p")
    top_n_sigma: Number | None = _limited("top_n_sigma")
    repeat_penalty: Number | None = of("a number above 0, at most 10; 1 = off", gt=0, le=10)
    repeat_last_n: int | None = of(_PENALTY_LAST, ge=-1, le=65536)
    frequency_penalty: Number | None = of("a number from -2 to 2", ge=-2, le=2)
    presence_penalty: Number | None = of("a number from -2 to 2", ge=-2, le=2)
    xtc_probability: Number | None = _limited("xtc_probability")
    xtc_threshold: Number | None = _limited("xtc_threshold")
    dynatemp_range: Number | None = _limited("dynatemp_range")
    dynatemp_exponent: Number | None = _limited("dynatemp_exponent")
    dry_multiplier: Number | None = _limited("dry_multiplier")
    dry_base: Number | None = _limited("dry_base")
    dry_allowed_length: int | None = of("a whole number from 0", ge=0, lt=_INT)
    dry_penalty_last_n: int | None = of(_PENALTY_LAST, ge=-1, le=65536)
    dry_sequence_breakers: Annotated[tuple[_Breaker, ...], Field(strict=False)] | None = of(
        f"up to {MOST_BREAKERS} texts of 1 to {MOST_BREAKER_BYTES} bytes without NUL characters",
        max_length=MOST_BREAKERS,
    )
    mirostat: int | None = of("0 (off), 1 or 2", ge=0, le=2)
    mirostat_tau: Number | None = _limited("mirostat_tau")
    mirostat_eta: Number | None = _limited("mirostat_eta")
    samplers: Annotated[tuple[str, ...] | None, BeforeValidator(read_samplers)] = of(ORDERS)
    seed: int | None = of("a whole number of 64 bits", ge=-_INT64, lt=_INT64)
    logit_bias: Annotated[tuple[tuple[int | str, float], ...] | None, BeforeValidator(read_biases)] = of(BIASES)
    stop: Annotated[tuple[_Stop, ...], BeforeValidator(_stops), Field(strict=False)] | None = of(
        f"a text, or 1 to {MOST_STOPS} texts, none empty or over 1024 characters", min_length=1, max_length=MOST_STOPS
    )
    n: int | None = of(f"a whole number from 1 to {MOST_CHOICES}", ge=1, le=MOST_CHOICES)
    n_cmpl: int | None = of(f"a whole number from 1 to {MOST_CHOICES}", ge=1, le=MOST_CHOICES)
    n_predict: int | None = of("a whole number from 0; -1 = until the context is full", ge=UNLIMITED, lt=_INT)
    min_tokens: int | None = of("a whole number from 0", ge=0, lt=_INT)
    ignore_eos: bool | None = of("true or false")
    cache_prompt: bool | None = of("true or false")
    stream: bool | None = of("true or false")
    stream_options: JsonObject | None = of('an object, such as {"include_usage": true}')

    @property
    def choices(self) -> int:
        """OpenAI's name wins over llama-server's."""
        return self.n or self.n_cmpl or 1

    @model_validator(mode="after")
    def _lengths(self) -> GenerationFields:
        if self.limit is not None and (self.min_tokens or 0) > self.limit:
            raise PydanticCustomError("rule", "must not be above max_tokens", {"param": "min_tokens"})
        return self

    @property
    def limit(self) -> int | None:
        """The most tokens of a reply; None = until the context is full."""
        return None

    @property
    def alternatives(self) -> int | None:
        """How many of them a token's log probability comes with; None = no log probabilities."""
        return None


_SAMPLING = frozenset(SamplingParams.__dataclass_fields__) & frozenset(GenerationFields.model_fields)


def sampling_of(fields: GenerationFields) -> SamplingParams:
    """All but the biases, whose texts only the model's vocabulary can tell."""
    given = {name: getattr(fields, name) for name in _SAMPLING - {"seed", "logit_bias"}}
    chosen = {name: value for name, value in given.items() if value is not None}
    return SamplingParams(**chosen, seed=_seed(fields.seed))


def _seed(value: int | None) -> int | None:
    """llama.cpp's seeds are 32 bits wide; -1 asks for a random one, as in llama-server."""
    return None if value in (None, -1) else value % _SEEDS


TOP_LOGPROBS = f"a whole number from 0 to {MOST_TOP_LOGPROBS}"
