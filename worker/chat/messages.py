"""The messages of a chat request, checked and brought into the one form that chat templates understand.

Content becomes one string: text parts are joined by newlines (as llama-server and vLLM do), null (an assistant's
message that only calls tools) becomes empty.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.contract import JsonObject
from worker.generate.faults import UNSUPPORTED_CONTENT

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]

_MEDIA = {
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "audio",
    "audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "video": "video",
    "file": "files",
    "input_file": "files",
}
_TEXT_KINDS = frozenset({"text", "input_text", "output_text", "refusal"})


def _text(content: Any) -> Any:
    """A list of text parts as one string; anything else is left to the type check."""
    if not isinstance(content, list):
        return content
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _MEDIA:
        what = _MEDIA[kind]
        raise PydanticCustomError(UNSUPPORTED_CONTENT, "holds {what}, but this model reads text only", {"what": what})
    text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else None
    if kind not in _TEXT_KINDS or not isinstance(text, str):
        raise PydanticCustomError("part", 'must be a text or a list of parts like {"type": "text", "text": "…"}')
    return text


class Message(BaseModel):
    """One message; fields we do not know travel to the template untouched."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True, strict=True)

    role: Role = Field(description=f"one of {', '.join(get_args(Role))}")
    content: Annotated[str | None, BeforeValidator(_text)] = Field(
        default=None, description="a text or a list of text parts", repr=False
    )
    tool_calls: list[JsonObject] | None = Field(
        default=None, description="a list of tool calls (objects)", repr=False
    )

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        called = self.role == "assistant" and (self.tool_calls or (self.model_extra or {}).get("function_call"))
        if self.content is None and not called:
            raise PydanticCustomError("content", "needs a content (a text or a list of text parts)")
        return self

    def for_template(self) -> JsonObject:
        """The message as a chat template reads it."""
        shown: JsonObject = {"role": self.role, "content": self.content or "", **(self.model_extra or {})}
        if self.tool_calls:
            shown["tool_calls"] = [_call(call) for call in self.tool_calls]
        return shown


def _call(call: JsonObject) -> JsonObject:
    """A tool call whose arguments are an object: the API carries them as JSON text, templates write the JSON."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call
