"""The fields of a chat request that say how to sample, and what becomes of them: Ollama's `options`. Pure.

`num_ctx`: Ollama cuts a prompt silently at its small default, so the context length that the model has is sent along,
unless the request has an `options.num_ctx` of its own. Chat only.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.embeddings.fields import Body, of, read

LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "ultra": "max"}
"""OpenAI's efforts as Ollama's own route reads them (openai/openai.go, thinkFromReasoningEffort)."""

_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "stop": "stop",
    "limit": "num_predict",
}


def _stops(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Sampling(Body):
    """Checked here: a wrong type in `options` is an HTTP 500 of Ollama's."""

    temperature: float | None = of("a number from 0 to 5", ge=0, le=5, allow_inf_nan=False)
    top_p: float | None = of("a number from 0 to 1", ge=0, le=1, allow_inf_nan=False)
    min_p: float | None = of("a number from 0 to 1", ge=0, le=1, allow_inf_nan=False)
    typical_p: float | None = of("a number from 0 to 1", ge=0, le=1, allow_inf_nan=False)
    top_k: int | None = of("a whole number; 0 or -1 = all tokens", ge=-1, lt=2**31)
    repeat_penalty: float | None = of("a number above 0, at most 10; 1 = off", gt=0, le=10, allow_inf_nan=False)
    repeat_last_n: int | None = of("a whole number from -1 to 65536", ge=-1, le=65536)
    frequency_penalty: float | None = of("a number from -2 to 2", ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = of("a number from -2 to 2", ge=-2, le=2, allow_inf_nan=False)
    seed: int | None = of("a whole number of 64 bits", ge=-(2**63), lt=2**63)
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops), Field(strict=False)] | None = of(
        "a text, or a list of 1 to 16 texts", min_length=1, max_length=16
    )
    max_tokens: int | None = of("a whole number from 1", ge=1, lt=2**31)
    max_completion_tokens: int | None = of("a whole number from 1", ge=1, lt=2**31)
    logprobs: bool | None = of("true or false")
    top_logprobs: int | None = of("a whole number from 0 to 20", ge=0, le=20)
    enable_thinking: bool | None = of("true or false")
    reasoning_effort: str | None = of(f'"none", {", ".join(LEVELS)} or "max"', max_length=16)
    tool_choice: str | None = of('"auto" or "none": Ollama cannot be made to call a tool')
    parallel_tool_calls: bool | None = of("true or false")
    options: JsonObject | None = of("an object of Ollama's options")
    chat_template_kwargs: JsonObject | None = of("an object; Ollama reads enable_thinking of it")

    @property
    def limit(self) -> int | None:
        """OpenAI's newer name wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class _Own(Sampling):
    """Ollama's own `options` of a request, those that can be told right from wrong."""

    num_ctx: int | None = of("a whole number from 1", ge=1, lt=2**31)
    num_predict: int | None = of("a whole number; -1 = no limit", ge=-2, lt=2**31)


def options_of(fields: Sampling, context_length: int | None) -> JsonObject:
    """The client's own `options` win over what its OpenAI fields say; an own `num_ctx` over the model's."""
    values = {option: getattr(fields, name) for name, option in _OPTIONS.items()}
    own = _own(fields.options or {})
    options = {name: value for name, value in values.items() if value is not None} | own
    if context_length and "num_ctx" not in own:
        options["num_ctx"] = context_length
    return options


def _own(options: JsonObject) -> JsonObject:
    """What is given of the client's own options. Raises BadRequestError."""
    try:
        read(_Own, options)
    except BadRequestError as exc:
        raise BadRequestError(f"options.{exc.message}", param=f"options.{exc.param}") from None
    return {name: value for name, value in options.items() if value is not None}
