"""Calls written as JSON objects, `{"name": …, "arguments": {…}}`, streamed while they are read. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from worker.chat.toolcalls import json_text
from worker.chat.toolcalls.reading import Reading
from worker.chat.toolcalls.text import Wait

_NAME_KEYS = frozenset({"name", "function", "tool_name"})
_ARGUMENT_KEYS = frozenset({"arguments", "parameters", "args"})
_KEYS = _NAME_KEYS | _ARGUMENT_KEYS | {"id", "type", "tool_call_id", "index"}


@dataclass(slots=True)
class _Call:
    """A call as far as it is known. Arguments wait until the name is known and they are surely an object."""

    reading: Reading
    offered_only: bool
    name: str | None = None
    id: str | None = None
    sure: bool = False
    begun: bool = False
    done: bool = False
    waiting: list[str] = field(default_factory=list)

    def acceptable(self) -> bool:
        return bool(self.name) and self.reading.may_call(self.name or "", offered_only=self.offered_only)

    def without_arguments(self) -> None:
        """The object is over: a tool that was given no arguments is called with none."""
        if not self.done and self.acceptable() and not self.waiting:
            self.done = True
            self.out("{}")
            self.is_sure()

    def learn(self, key: str, value: object) -> None:
        if key in _NAME_KEYS:
            self.name = value if isinstance(value, str) else None
            self.flush()
        elif key == "id" and isinstance(value, str) and value:
            self.id = value

    def out(self, fragment: str) -> None:
        if self.begun:
            self.reading.arguments(fragment)
        else:
            self.waiting.append(fragment)

    def is_sure(self) -> None:
        self.sure = True
        self.flush()

    def flush(self) -> None:
        if self.sure and not self.begun and self.name and self.acceptable():
            self.reading.begin_call(self.name, self.id)
            self.begun = True
            self.reading.arguments("".join(self.waiting))


def call_object(reading: Reading, *, offered_only: bool = False) -> Wait[bool]:
    """Read one. `offered_only`: any other name than an offered tool's makes it an ordinary object.

    True when a call has come out whole; closing braces that are missing are forgiven.
    """
    call = _Call(reading, offered_only)
    text = reading.text
    if not (yield from text.literal("{")):
        return False
    while True:
        if call.begun:
            text.mark()
        if not (yield from _member(call)):
            if call.done:
                text.back()
            return call.done and call.begun
        yield from text.blanks()
        if not (yield from text.literal(",")):
            break
    yield from text.literal("}")
    call.without_arguments()
    if call.begun:
        text.forget()
    return call.done and call.begun


def call_array(reading: Reading, *, offered_only: bool = False) -> Wait[bool]:
    """Read `[call, call, …]`."""

    def one(reading: Reading) -> Wait[bool]:
        return call_object(reading, offered_only=offered_only)

    if not (yield from reading.text.literal("[")):
        return False
    while True:
        yield from reading.text.blanks()
        if (yield from reading.text.literal("]")):
            return True
        if not (yield from reading.again(one)):
            return False
        yield from reading.text.blanks()
        yield from reading.text.literal(",")


def arguments(reading: Reading, name: str, call_id: str | None = None) -> Wait[bool]:
    """Read the arguments of a call whose name stood before them; False also where it may not be called."""
    call = _Call(reading, offered_only=False, name=name, id=call_id)
    return call.acceptable() and (yield from _arguments(call))


def _member(call: _Call) -> Wait[bool]:
    """Read `"key": value`; False where it is none, or this cannot be a call any more."""
    text = call.reading.text
    yield from text.blanks()
    key = _loads((yield from json_text.read(text))) if (yield from text.peek()) == '"' else None
    if not isinstance(key, str) or (call.offered_only and not call.begun and key not in _KEYS):
        return False
    yield from text.blanks()
    if not (yield from text.literal(":")):
        return False
    yield from text.blanks()
    if key in _ARGUMENT_KEYS and not call.begun:
        return (yield from _arguments(call))
    if key == "function" and (yield from text.peek()) == "{":
        return (yield from _nested(call))
    written = yield from json_text.read(text)
    if not call.begun:
        call.learn(key, _loads(written))
    return written is not None and (key not in _NAME_KEYS or call.acceptable())


def _nested(call: _Call) -> Wait[bool]:
    """OpenAI's own form: `"function": {"name": …, "arguments": …}`."""
    text = call.reading.text
    yield from text.literal("{")
    while (yield from _member(call)):
        yield from text.blanks()
        if not (yield from text.literal(",")):
            return (yield from text.literal("}"))
    return False


def _arguments(call: _Call) -> Wait[bool]:
    text = call.reading.text
    yield from text.blanks()
    if (yield from text.peek()) == "{":
        call.done = yield from json_text.members(text, call.out, started=call.is_sure)
        return call.done
    written = yield from json_text.read(text)
    inside = _loads(written)
    if isinstance(inside, str) and inside.strip():  # JSON in a string
        written, inside = inside.strip(), _loads(inside)
        if inside is None:
            return False
    if written is None or not (isinstance(inside, dict) or not inside):
        return False
    call.out(written if isinstance(inside, dict) else "{}")
    call.done = True
    call.is_sure()
    return True


def _loads(text: str | None) -> object:
    """The value of JSON text; None for none (and for null, which is as good as none here)."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
