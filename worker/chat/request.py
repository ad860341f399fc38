"""A chat request: the OpenAI-shaped body, checked field by field, as one frozen value.

Unknown fields are ignored, as OpenAI's own clients expect of a server; a known field with a bad value is named
together with what is allowed. No error quotes what was sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.chat.messages import UNSUPPORTED_CONTENT, Message
from worker.chat.template import RESERVED
from worker.chat.toolcalls.forced import Tool, parse_tools
from worker.chat.toolcalls.forced import chosen as chosen_tools
from worker.chat.unsupported import refuse_unsupported
from worker.engine.api import SamplingParams

MOST_STOPS = 16
_INT64 = 2**63
_SEEDS = 2**32
_OUR_WORDS = frozenset({UNSUPPORTED_CONTENT, "part", "content", "rule"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked of the model. `messages` are as chat templates read them; `template_args` are its variables.

    `tools` are what the template shows the model, `offered` the same checked; neither when the reply may not call. It
    has to call one of `forced`, if that is given.
    """

    messages: tuple[JsonObject, ...] = field(repr=False)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = field(default=(), repr=False)
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    cache_prompt: bool = True
    stream: bool = False
    tools: tuple[JsonObject, ...] = field(default=(), repr=False)
    offered: tuple[Tool, ...] = field(default=(), repr=False)
    forced: tuple[Tool, ...] | None = field(default=None, repr=False)
    parallel_calls: bool = True
    template_args: JsonObject = field(default_factory=dict, repr=False)


def parse_chat(body: JsonObject) -> ChatRequest:
    """Pure. Raises BadRequestError: `bad_request`, `unsupported_content` or `unsupported_parameter`."""
    refuse_unsupported(body)
    try:
        return _request(_Body.model_validate(body))
    except ValidationError as exc:
        raise _explained(exc.errors(include_url=False, include_input=False)[0]) from None


def _stops(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _seed(value: int | None) -> int | None:
    """llama.cpp's seeds are 32 bits wide; -1 asks for a random one, as in llama-server."""
    return None if value in (None, -1) else value % _SEEDS


def _biases(value: Any) -> Any:
    """JSON's keys are text; token ids are numbers."""
    if not isinstance(value, dict):
        return value
    return {int(token) if str(token).isdecimal() else token: bias for token, bias in value.items()}


def _of(allowed: str, **limits: Any) -> Any:
    """A field whose error says what is allowed."""
    return Field(default=None, description=allowed, **limits)


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
_Stop = Annotated[str, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    """The fields we read. None stands for "not given", as clients send it."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    messages: list[Message] = Field(min_length=1, description="a list of one or more {role, content} messages")
    temperature: _Number | None = _of("a number from 0 to 5", ge=0, le=5)
    top_p: _Number | None = _of("a number from 0 to 1", ge=0, le=1)
    min_p: _Number | None = _of("a number from 0 to 1", ge=0, le=1)
    top_k: int | None = _of("a whole number; 0 or -1 = all tokens", ge=-1, lt=2**31)
    repeat_penalty: _Number | None = _of("a number above 0, at most 10; 1 = off", gt=0, le=10)
    repeat_last_n: int | None = _of("a whole number from 0 to 65536", ge=0, le=65536)
    frequency_penalty: _Number | None = _of("a number from -2 to 2", ge=-2, le=2)
    presence_penalty: _Number | None = _of("a number from -2 to 2", ge=-2, le=2)
    seed: int | None = _of("a whole number of 64 bits", ge=-_INT64, lt=_INT64)
    logit_bias: Annotated[dict[int, _Bias], BeforeValidator(_biases)] | None = _of(
        "an object of token ids and numbers from -100 to 100", max_length=1024
    )
    stop: Annotated[tuple[_Stop, ...], BeforeValidator(_stops), Field(strict=False)] | None = _of(
        f"a text, or 1 to {MOST_STOPS} texts, none empty or over 1024 characters", min_length=1, max_length=MOST_STOPS
    )
    max_tokens: int | None = _of("a whole number from 1", ge=1, lt=2**31)
    max_completion_tokens: int | None = _of("a whole number from 1", ge=1, lt=2**31)
    min_tokens: int | None = _of("a whole number from 0", ge=0, lt=2**31)
    ignore_eos: bool | None = _of("true or false")
    cache_prompt: bool | None = _of("true or false")
    stream: bool | None = _of("true or false")
    stream_options: JsonObject | None = _of('an object, such as {"include_usage": true}')
    tools: list[JsonObject] | None = _of("a list of tools (objects)")
    tool_choice: str | JsonObject | None = _of('"none", "auto", "required" or one of the tools')
    parallel_tool_calls: bool | None = _of("true or false")
    enable_thinking: bool | None = _of("true or false")
    reasoning_effort: str | None = _of('a text such as "low"', max_length=32)
    chat_template_kwargs: JsonObject | None = _of("an object of variables for the chat template")

    @model_validator(mode="after")
    def _together(self) -> _Body:
        limit = self.limit
        if limit is not None and (self.min_tokens or 0) > limit:
            raise PydanticCustomError("rule", "must not be above max_tokens", {"param": "min_tokens"})
        taken = sorted(RESERVED & set(self.chat_template_kwargs or ()))
        if taken:
            ctx = {"param": "chat_template_kwargs", "taken": ", ".join(taken)}
            raise PydanticCustomError("rule", "must not set {taken}", ctx)
        return self

    @property
    def limit(self) -> int | None:
        """OpenAI's newer name wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "frequency_penalty",
             "presence_penalty")  # fmt: skip


def _request(body: _Body) -> ChatRequest:
    tools = body.tools or []
    offered = parse_tools(tools)
    may_call = body.tool_choice != "none"
    chosen = {name: getattr(body, name) for name in _SAMPLING if getattr(body, name) is not None}
    return ChatRequest(
        messages=tuple(message.for_template() for message in body.messages),
        sampling=SamplingParams(**chosen, seed=_seed(body.seed), logit_bias=tuple((body.logit_bias or {}).items())),
        stop=body.stop or (),
        max_tokens=body.limit,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        cache_prompt=body.cache_prompt is not False,
        stream=bool(body.stream),
        tools=tuple(tools) if may_call else (),
        offered=offered if may_call else (),
        forced=chosen_tools(offered, body.tool_choice),
        parallel_calls=body.parallel_tool_calls is not False,
        template_args=_template_args(body),
    )


def _template_args(body: _Body) -> JsonObject:
    given = {"enable_thinking": body.enable_thinking, "reasoning_effort": body.reasoning_effort}
    return {
        **(body.chat_template_kwargs or {}),
        **{name: value for name, value in given.items() if value is not None},
    }


def _explained(error: ErrorDetails) -> BadRequestError:
    """The first fault in words: which field, and what may stand in it."""
    where = _path(error["loc"]) or str(error.get("ctx", {}).get("param", ""))
    words = error["msg"] if error["type"] in _OUR_WORDS else f"must be {_allowed(where)}"
    code = UNSUPPORTED_CONTENT if error["type"] == UNSUPPORTED_CONTENT else None
    return BadRequestError(f"{where} {words}", code=code, param=where)


def _allowed(where: str) -> str:
    """What may stand in a field, in the words of its description."""
    fields = Message.model_fields if where.startswith("messages[") else _Body.model_fields
    found = fields.get(where.rpartition(".")[2])
    return str(found.description) if found else "a {role, content} message"


def _path(loc: tuple[int | str, ...]) -> str:
    """Like `messages[0].content`. Stops where the names are the client's own (keys of its objects)."""
    if loc[:1] != ("messages",):
        return str(loc[0]) if loc else ""
    index = f"[{loc[1]}]" if len(loc) > 1 else ""
    name = f".{loc[2]}" if len(loc) > 2 and loc[2] in Message.model_fields else ""  # noqa: PLR2004  # list, index, name
    return f"messages{index}{name}"
