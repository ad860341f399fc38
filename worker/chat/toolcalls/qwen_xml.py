"""Qwen3-Coder, Qwen 3.5 and later, Nemotron 3: calls with a tag a parameter. Pure.

    <tool_call>
    <function=name>
    <parameter=key>
    value
    </parameter>
    </function>
    </tool_call>

Values carry no type; the tool's schema tells whether `12` is a number or text. Text parameters stream.
"""

from __future__ import annotations

import json
import re
from typing import Any

from worker.chat.toolcalls.call_object import call_object
from worker.chat.toolcalls.families import TOOL_CALL, TOOL_CALL_END
from worker.chat.toolcalls.reading import Reading
from worker.chat.toolcalls.text import Wait, overlap

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
_ENDS = ("\n" + PARAMETER_END, PARAMETER_END)
_NAME = re.compile(r"[\w.:/-]+")
_MOST_NAME = 256
_BRACES = re.compile(r"[}\s]*")


def qwen_xml(reading: Reading) -> Wait[None]:
    """The JSON form of older Qwen models is read too."""
    while (yield from reading.content_until([TOOL_CALL, FUNCTION])):
        yield from reading.attempt(_block)


def _block(reading: Reading) -> Wait[bool]:
    text = reading.text
    wrapped = yield from text.literal(TOOL_CALL)
    yield from text.blanks()
    if wrapped and (yield from text.peek()) == "{":
        complete = yield from call_object(reading)
        yield from text.run(_BRACES)
    else:
        complete = yield from _function(reading, offered_only=not wrapped)
        yield from text.blanks()
    if complete:
        yield from text.literal(TOOL_CALL_END)
    return complete


def _function(reading: Reading, *, offered_only: bool) -> Wait[bool]:
    text = reading.text
    if not (yield from text.literal(FUNCTION)):
        return False
    name = yield from text.until([">"], most=_MOST_NAME)
    if not name or not _NAME.fullmatch(name) or not reading.may_call(name, offered_only=offered_only):
        return False
    text.skip(1)
    yield from text.blanks()
    if (yield from text.literal(FUNCTION_END)):
        reading.begin_call(name)
        reading.arguments("{}")
        return True
    if not (yield from text.literal(PARAMETER)):
        return False
    reading.begin_call(name)
    return (yield from _parameters(reading, _properties(reading.tools.get(name))))


def _parameters(reading: Reading, properties: dict[str, Any]) -> Wait[bool]:
    """After `<parameter=`."""
    text = reading.text
    before = "{"
    while True:
        key = yield from text.until([">"], most=_MOST_NAME)
        if key is None:
            return False
        text.skip(1)
        yield from text.literal("\n")
        reading.arguments(f"{before}{json.dumps(key, ensure_ascii=False)}: ")
        schema = properties.get(key)
        if not (yield from (_words(reading) if _is_text(schema) else _value(reading, schema))):
            return False
        before = ", "
        yield from text.blanks()
        if (yield from text.literal(FUNCTION_END)):
            reading.arguments("}")
            return True
        if not (yield from text.literal(PARAMETER)):
            return False


def _words(reading: Reading) -> Wait[bool]:
    """A text parameter, as it comes."""
    text = reading.text
    reading.arguments('"')
    while True:
        rest = text.rest
        end = min((at for mark in _ENDS if (at := rest.find(mark)) >= 0), default=None)
        sure = len(rest) - overlap(rest, _ENDS)
        shown = text.skip(sure if end is None else end)
        reading.arguments(_escaped(shown))
        if end is not None:
            yield from text.literal("\n")
            reading.arguments('"')
            return (yield from text.literal(PARAMETER_END))
        if text.over:
            return False
        yield


def _value(reading: Reading, schema: Any) -> Wait[bool]:
    """Any other parameter, whole."""
    text = reading.text
    while PARAMETER_END not in text.rest:
        if text.over:
            return False
        yield
    written = text.skip(text.rest.index(PARAMETER_END))
    reading.arguments(_as_json(written.removesuffix("\n"), schema))
    return (yield from text.literal(PARAMETER_END))


def _as_json(written: str, schema: Any) -> str:
    python = {"True": "true", "False": "false", "None": "null"}
    try:
        value = json.loads(python.get(written.strip(), written))
    except ValueError:
        value = written
    if not isinstance(value, str) and _types(schema) == {"string"}:
        value = written
    return json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _properties(schema: Any) -> dict[str, Any]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _is_text(schema: Any) -> bool:
    return _types(schema) == {"string"}


def _types(schema: Any) -> set[str]:
    """The types a schema names, itself or by what it enumerates; empty = unknown."""
    if not isinstance(schema, dict):
        return set()
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return {name for name in named if isinstance(name, str)}
    listed = schema.get("enum")
    if isinstance(listed, list) and listed and all(isinstance(item, str) for item in listed):
        return {"string"}
    return set()
