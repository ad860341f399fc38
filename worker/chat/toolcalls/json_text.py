"""JSON as models write it, read as it arrives and passed on as JSON that every client can parse. Pure.

Mended on the way, because models make these mistakes and clients' parsers do not forgive them: raw control characters
in strings, backslashes that escape nothing, Python's True, False and None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from worker.chat.toolcalls.text import Text, Wait

Out = Callable[[str], None]

_DEPTH = 100
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_WORD = re.compile(r"[-+.\w]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_WORDS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}


def value(text: Text, out: Out, depth: int = 0) -> Wait[bool]:
    """Read one JSON value; False where it stops being one (what was read until then is out)."""
    char = yield from text.peek()
    if depth > _DEPTH:
        return False
    if char == "{":
        return (yield from members(text, out, depth=depth))
    if char == "[":
        return (yield from _items(text, out, depth))
    if char == '"':
        return (yield from string(text, out))
    return (yield from _scalar(text, out))


def members(text: Text, out: Out, *, depth: int = 0, started: Callable[[], None] = lambda: None) -> Wait[bool]:
    """Read an object. `started` is called once it surely is one: after the first key, or when it is empty."""
    if not (yield from _sign(text, out, "{")):
        return False
    yield from _blanks(text, out)
    if (yield from _sign(text, out, "}")):
        started()
        return True
    while True:
        if not ((yield from string(text, out)) and (yield from _colon(text, out))):
            return False
        started()
        if not (yield from value(text, out, depth + 1)):
            return False
        yield from _blanks(text, out)
        if not (yield from _sign(text, out, ",")):
            return (yield from _sign(text, out, "}"))
        yield from _blanks(text, out)


def string(text: Text, out: Out) -> Wait[bool]:
    if not (yield from _sign(text, out, '"')):
        return False
    while True:
        plain = yield from _plain(text, out)
        if not plain:
            return False
        char = text.skip(1)
        if char == '"':
            out(char)
            return True
        if char == "\\":
            if not (yield from _escape(text, out)):
                return False
        else:
            out(json.dumps(char)[1:-1])


def read(text: Text) -> Wait[str | None]:
    """One whole value's JSON text, or None."""
    parts: list[str] = []
    complete = yield from value(text, parts.append)
    return "".join(parts) if complete else None


def _plain(text: Text, out: Out) -> Wait[bool]:
    """Pass on what needs no care, as it comes; whether something follows it."""
    while True:
        match = _PLAIN.match(text.rest)
        if match and match.end():
            out(text.skip(match.end()))
        if text.rest:
            return True
        if text.over:
            return False
        yield


def _escape(text: Text, out: Out) -> Wait[bool]:
    char = yield from text.peek()
    if not char:
        return False
    if char in '"\\/bfnrt':
        out("\\" + text.skip(1))
        return True
    if char == "u":
        while len(text.rest) <= 4 and not text.over:  # noqa: PLR2004  # four hex digits
            yield
        if _HEX.match(text.rest[1:]):
            out("\\" + text.skip(5))
            return True
    out("\\\\")  # it escapes nothing: a regex, a Windows path
    return True


def _items(text: Text, out: Out, depth: int) -> Wait[bool]:
    yield from _sign(text, out, "[")
    yield from _blanks(text, out)
    if (yield from _sign(text, out, "]")):
        return True
    while True:
        if not (yield from value(text, out, depth + 1)):
            return False
        yield from _blanks(text, out)
        if not (yield from _sign(text, out, ",")):
            return (yield from _sign(text, out, "]"))
        yield from _blanks(text, out)


def _scalar(text: Text, out: Out) -> Wait[bool]:
    word = yield from text.run(_WORD)
    if word in _WORDS or _NUMBER.fullmatch(word):
        out(_WORDS.get(word, word))
        return True
    return False


def _colon(text: Text, out: Out) -> Wait[bool]:
    yield from _blanks(text, out)
    found = yield from _sign(text, out, ":")
    yield from _blanks(text, out)
    return found


def _sign(text: Text, out: Out, sign: str) -> Wait[bool]:
    found = yield from text.literal(sign)
    if found:
        out(sign)
    return found


def _blanks(text: Text, out: Out) -> Wait[None]:
    blanks = yield from text.run(_SPACE)
    if blanks:
        out(blanks)


_SPACE = re.compile(r"[ \t\r\n]*")
