"""A legacy completion request (`/v1/completions`), checked field by field, as one frozen value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.contract import JsonObject
from worker.completion.unsupported import refuse_unsupported
from worker.engine.api import MOST_CHOICES, MOST_TOP_LOGPROBS
from worker.generate.faults import read
from worker.generate.fields import TOP_LOGPROBS, UNLIMITED, GenerationFields, of
from worker.generate.request import TextRequest, asked_alike

DEFAULT_MAX_TOKENS = 16
"""OpenAI's; llama-server goes on until the context is full, which `max_tokens: -1` asks for."""
MOST_PROMPTS = 64
MOST_REPLIES = 128

Prompt = str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompletionRequest(TextRequest):
    """`prompts` are texts or token ids; each gets `n` replies, of which the `keep` likeliest are returned (all of
    them in a stream). `suffix` "" = none."""

    prompts: tuple[Prompt, ...] = field(repr=False)
    suffix: str = field(default="", repr=False)
    echo: bool = False
    keep: int = 1


def parse_completion(body: JsonObject) -> CompletionRequest:
    """Pure. Raises BadRequestError: `bad_request` or `unsupported_parameter`."""
    refuse_unsupported(body)
    return _request(read(CompletionFields, body))


def _prompts(value: Any) -> tuple[Prompt, ...]:
    """A text, texts, token ids, or lists of token ids."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise _wrong()
    return (_ids(value),) if _is_id(value[0]) else tuple(_one(prompt) for prompt in value)


def _one(prompt: Any) -> Prompt:
    return prompt if isinstance(prompt, str) else _ids(prompt)


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(map(_is_id, value)):
        raise _wrong()
    return tuple(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _wrong() -> PydanticCustomError:
    return PydanticCustomError("prompt", "is no prompt")


class CompletionFields(GenerationFields):
    """The fields we read."""

    prompt: Annotated[tuple[Prompt, ...], BeforeValidator(_prompts), Field(max_length=MOST_PROMPTS, strict=False)] = (
        Field(description=f"a text, a list of token ids, or a list of 1 to {MOST_PROMPTS} of either", repr=False)
    )
    suffix: str | None = of("a text", repr=False)
    echo: bool | None = of("true or false")
    max_tokens: int | None = of("a whole number from 0; -1 = until the context is full", ge=UNLIMITED, lt=2**31)
    logprobs: int | None = of(TOP_LOGPROBS, ge=0, le=MOST_TOP_LOGPROBS)
    best_of: int | None = of(f"a whole number from 1 to {MOST_CHOICES}", ge=1, le=MOST_CHOICES)

    @model_validator(mode="after")
    def _together(self) -> CompletionFields:
        if self.made < self.choices:
            raise _rule("best_of", "must not be below n")
        if self.made > self.choices and self.stream:
            raise _rule("best_of", "above n cannot be streamed: which replies are best is known at their end")
        if len(self.prompt) * self.made > MOST_REPLIES:
            param = "best_of" if self.made > self.choices else "n"
            raise _rule(param, f"times the number of prompts must be at most {MOST_REPLIES}")
        if self.echo and self.suffix:
            raise _rule("echo", "cannot be combined with suffix")
        if self.echo and self.logprobs is not None and self.stream:
            raise _rule("logprobs", "with echo cannot be streamed: those of the prompt come whole")
        return self

    @property
    def made(self) -> int:
        """How many replies to a prompt are generated."""
        return self.choices if self.best_of is None else self.best_of

    @property
    def limit(self) -> int | None:
        limit = self.n_predict if self.max_tokens is None else self.max_tokens
        if limit is None:
            return DEFAULT_MAX_TOKENS
        return None if limit == UNLIMITED else limit

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


def _rule(param: str, words: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{words}", {"param": param, "words": words})


def _request(body: CompletionFields) -> CompletionRequest:
    return CompletionRequest(
        prompts=body.prompt,
        suffix=body.suffix or "",
        echo=bool(body.echo),
        keep=body.choices,
        **{**asked_alike(body), "n": body.made},
    )
