"""A chat request: the OpenAI-shaped body, checked field by field, as one frozen value.

Unknown fields are ignored; a known field with a bad value is named together with what is allowed. No error quotes
what was sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.contract import JsonObject
from worker.chat.messages import Message
from worker.chat.template import RESERVED
from worker.chat.toolcalls.choosing import chosen
from worker.chat.toolcalls.forced import Tool, parse_tools
from worker.chat.unsupported import refuse_unsupported
from worker.engine.api import MOST_TOP_LOGPROBS
from worker.generate.faults import read
from worker.generate.fields import TOP_LOGPROBS, UNLIMITED, GenerationFields, of
from worker.generate.request import TextRequest, asked_alike


@dataclass(frozen=True, slots=True)
class ChatRequest(TextRequest):
    """What is asked of the model. `messages` are as chat templates read them; `template_args` are its variables.

    `tools` are what the template shows the model, `offered` those of them that the reply may call, checked
    (`restricted`: not all of them); neither when it may not call. It has to call one of `forced`, if that is given.
    """

    messages: tuple[JsonObject, ...] = field(repr=False)
    tools: tuple[JsonObject, ...] = field(default=(), repr=False)
    offered: tuple[Tool, ...] = field(default=(), repr=False)
    forced: tuple[Tool, ...] | None = field(default=None, repr=False)
    restricted: bool = False
    parallel_calls: bool = True
    template_args: JsonObject = field(default_factory=dict, repr=False)


def parse_chat(body: JsonObject) -> ChatRequest:
    """Pure. Raises BadRequestError: `bad_request`, `unsupported_content` or `unsupported_parameter`."""
    refuse_unsupported(body)
    return _request(read(ChatFields, body, {"messages": Message}))


class ChatFields(GenerationFields):
    """The fields we read."""

    messages: list[Message] = Field(
        min_length=1, description="a list of one or more {role, content} messages", repr=False
    )
    max_tokens: int | None = of("a whole number from 1", ge=1, lt=2**31)
    max_completion_tokens: int | None = of("a whole number from 1", ge=1, lt=2**31)
    logprobs: bool | None = of("true or false")
    top_logprobs: int | None = of(TOP_LOGPROBS, ge=0, le=MOST_TOP_LOGPROBS)
    tools: list[JsonObject] | None = of("a list of tools (objects)")
    tool_choice: str | JsonObject | None = of('"none", "auto", "required", one of the tools, or allowed_tools')
    parallel_tool_calls: bool | None = of("true or false")
    enable_thinking: bool | None = of("true or false")
    reasoning_effort: str | None = of('a text such as "low"', max_length=32)
    chat_template_kwargs: JsonObject | None = of("an object of variables for the chat template")

    @model_validator(mode="after")
    def _together(self) -> ChatFields:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("rule", "needs logprobs: true", {"param": "top_logprobs"})
        taken = sorted(RESERVED & set(self.chat_template_kwargs or ()))
        if taken:
            ctx = {"param": "chat_template_kwargs", "taken": ", ".join(taken)}
            raise PydanticCustomError("rule", "must not set {taken}", ctx)
        return self

    @property
    def limit(self) -> int | None:
        """OpenAI's newer name wins, then its older one, then llama-server's."""
        given = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        limit = next((one for one in given if one is not None), None)
        return None if limit == UNLIMITED else limit

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


def _request(body: ChatFields) -> ChatRequest:
    tools = body.tools or []
    choice = chosen(parse_tools(tools), body.tool_choice)
    return ChatRequest(
        messages=tuple(message.for_template() for message in body.messages),
        **asked_alike(body),
        tools=tuple(tools) if choice.allowed else (),
        offered=choice.allowed,
        forced=choice.forced,
        restricted=choice.restricted,
        parallel_calls=body.parallel_tool_calls is not False,
        template_args=_template_args(body),
    )


def _template_args(body: ChatFields) -> JsonObject:
    given = {"enable_thinking": body.enable_thinking, "reasoning_effort": body.reasoning_effort}
    return {
        **(body.chat_template_kwargs or {}),
        **{name: value for name, value in given.items() if value is not None},
    }
