"""OpenAI's messages and tools as Ollama's `/api/chat` takes them (api/types.go, openai/openai.go). Pure.

One message stays one message: texts are joined by newlines, pictures go to `images` as base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.backends.external.pictures import UNSUPPORTED_CONTENT, address_of, refuse_address

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_DATA_URL = re.compile(r"data:(image/[\w.+-]+)?;base64,", re.IGNORECASE)
_SHAPE = 'a text or a list of parts like {"type": "text", "text": "…"}'


def chat_messages(messages: Any) -> list[JsonObject]:
    """Raises BadRequestError naming the message; nothing of what was sent is quoted."""
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", "must be a list of one or more {role, content} messages")
    called: dict[str, str] = {}
    return [_message(message, f"messages[{index}]", called) for index, message in enumerate(messages)]


def tools_of(tools: Any) -> list[JsonObject]:
    """The tools that the model is shown. Raises BadRequestError."""
    if not isinstance(tools, list):
        raise _bad("tools", "must be a list of tools (objects)")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _bad(f"tools[{index}]", 'must be {"type": "function", "function": {"name": …, "parameters": {…}}}')
    return tools


def _message(message: Any, where: str, called: dict[str, str]) -> JsonObject:
    """`called`: the names of the calls so far by their ids, the last of an id wins."""
    role = _ROLES.get(str(message.get("role"))) if isinstance(message, dict) else None
    if role is None:
        raise _bad(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    text, images = _content(message.get("content"), f"{where}.content")
    made: JsonObject = {"role": role, "content": text}
    if images:
        made["images"] = images
    if role == "assistant":
        made |= _said(message, where, called)
    elif role == "tool":
        made |= _answered(message, called)
    if message.get("content") is None and not made.get("tool_calls"):
        raise _bad(where, "needs a content (a text or a list of parts)")
    return made


def _said(message: JsonObject, where: str, called: dict[str, str]) -> JsonObject:
    """What an assistant's message holds besides its content."""
    more: JsonObject = {}
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str) and thinking:
        more["thinking"] = thinking
    calls = message.get("tool_calls")
    if calls:
        if not isinstance(calls, list):
            raise _bad(f"{where}.tool_calls", "must be a list of tool calls (objects)")
        more["tool_calls"] = [_call(call, f"{where}.tool_calls[{i}]", called) for i, call in enumerate(calls)]
    return more


def _call(call: Any, where: str, called: dict[str, str]) -> JsonObject:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _bad(where, 'must be {"id": …, "type": "function", "function": {"name": …, "arguments": …}}')
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _object(arguments or "{}", f"{where}.function.arguments")
    if not isinstance(arguments, dict):
        raise _bad(f"{where}.function.arguments", "must be the JSON text of an object")
    made: JsonObject = {"function": {"name": function["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        called[call["id"]] = function["name"]
        made["id"] = call["id"]
    return made


def _object(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise _bad(where, "must be the JSON text of an object") from None


def _answered(message: JsonObject, called: dict[str, str]) -> JsonObject:
    """A tool's result: Ollama wants the tool's name, OpenAI's clients give the call's id."""
    more: JsonObject = {}
    call_id = message.get("tool_call_id")
    name = message.get("name") or (called.get(call_id) if isinstance(call_id, str) else None)
    if isinstance(name, str):
        more["tool_name"] = name
    if isinstance(call_id, str):
        more["tool_call_id"] = call_id
    return more


def _content(content: Any, where: str) -> tuple[str, list[str]]:
    if content is None:
        return "", []
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise _bad(where, f"must be {_SHAPE}")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXTS and isinstance(part.get(_TEXTS[kind]), str):
            texts.append(part[_TEXTS[kind]])
        else:
            images.append(_media(part, kind, f"{where}[{index}]"))
    return "\n".join(texts), images


def _media(part: Any, kind: Any, where: str) -> str:
    """A picture, or a recording (Ollama takes both as `images`), as plain base64."""
    if kind in ("image_url", "input_image"):
        return _picture(address_of(part), where)
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return _base64(part["input_audio"].get("data"), where)
    if kind in ("video_url", "video", "file", "input_file", "audio_url"):
        raise _bad(where, "holds a video or a file; Ollama takes texts and images", UNSUPPORTED_CONTENT)
    raise _bad(where, f"must be {_SHAPE}")


def _picture(url: Any, where: str) -> str:
    refuse_address(url, where)
    head = _DATA_URL.match(url) if isinstance(url, str) else None
    if head is None:
        raise _bad(where, "must hold the image as a data URL: data:image/png;base64,…", UNSUPPORTED_CONTENT)
    return _base64(url[head.end() :], where)


def _base64(data: Any, where: str) -> str:
    text = data.strip() if isinstance(data, str) else ""
    try:
        if text and base64.b64decode(text, validate=True):
            return text
    except (binascii.Error, ValueError):
        pass
    raise _bad(where, "must hold base64", UNSUPPORTED_CONTENT)


def _bad(where: str, words: str, code: str | None = None) -> BadRequestError:
    return BadRequestError(f"{where} {words}", code=code, param=where)
