"""Bad input made from good input: JSON values changed in places that mean something, and bytes changed in any.

Pure: everything follows from the random generator that is passed in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2**31, -(2**31), 2**53 + 1, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 5e-324,
           float("inf"), float("-inf"), float("nan"))  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "null", "true", "\0", "\x7f", "\u202e", "\ufeff", "é", "𝔘", "a\nb", "..", "../../etc/passwd",
    "/", "\\", "%00", "{{7*7}}", "${x}", "<b>", "'--", "*", "__proto__", "A" * 300, "ß" * 5000, "🜁" * 70, "=" * 40,
)  # fmt: skip
_DEEP = 3000
_RAW = (
    b"", b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"NaN", b"-Infinity", b"1e999", b"9" * 5000,
    b'"\\ud800"', b'"\\u0000"', b"[" * _DEEP, b'{"a":' * _DEEP, b",", b":", b"}", b"]", b'"', b"//", b"\r\n\r\n",
)  # fmt: skip


def text(rng: Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(TEXTS)
    return "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xD800)))) for _ in range(rng.randrange(12)))


def scalar(rng: Random) -> Any:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice((None, True, False))
    return rng.choice(NUMBERS) if kind < 3 else text(rng)


def document(rng: Random, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = rng.randrange(4) if depth else 0
    if kind < 2:
        return scalar(rng)
    if kind == 2:
        return [document(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {text(rng): document(rng, depth - 1) for _ in range(rng.randrange(4))}


def mutated(value: Any, rng: Random) -> Any:
    """A copy with one to three places changed; now and then none, so that the good one is seen, too."""
    made = deepcopy(value)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        made = _changed(made, rng)
    return made


def as_bytes(value: Any, rng: Random) -> bytes:
    """The value as JSON text, sometimes damaged as text."""
    raw = json.dumps(
        value, ensure_ascii=rng.random() < 0.5, separators=rng.choice(((",", ":"), (", ", ": ")))
    ).encode()
    return damaged(raw, rng) if rng.random() < 0.3 else raw


def damaged(raw: bytes, rng: Random) -> bytes:
    """Bytes with some flipped, cut, doubled or put in."""
    made = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(made) + 1)
        end = min(len(made), at + rng.choice((1, 2, 4, 16, 256)))
        way = rng.randrange(5)
        if way == 0 and made:
            made[at % len(made)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del made[at:end]
        elif way == 2:
            made[at:at] = made[at:end]
        elif way == 3:
            made[at:at] = rng.choice(_RAW)
        else:
            made[at:] = rng.randbytes(rng.randrange(8))
    return bytes(made)


def _changed(value: Any, rng: Random) -> Any:
    """One place changed: a step down while there is somewhere to go, then something else stands there."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        return _in_object(value, rng)
    if isinstance(value, list) and value and rng.random() < 0.85:
        return _in_array(value, rng)
    if isinstance(value, str) and rng.random() < 0.5:
        return _other_text(value, rng)
    if isinstance(value, int | float) and rng.random() < 0.7:
        return rng.choice(NUMBERS)
    return _other(value, rng)


def _in_object(value: dict[str, Any], rng: Random) -> dict[str, Any]:
    name = rng.choice(list(value))
    way = rng.randrange(8)
    if way == 0:
        del value[name]
    elif way == 1:
        value[text(rng)] = document(rng, 1)
    elif way == 2:
        value[name] = deepcopy(value[rng.choice(list(value))])
    else:
        value[name] = _changed(value[name], rng)
    return value


def _in_array(value: list[Any], rng: Random) -> list[Any]:
    at = rng.randrange(len(value))
    way = rng.randrange(6)
    if way == 0:
        del value[at]
    elif way == 1:
        value.append(deepcopy(value[at]))
    elif way == 2:
        rng.shuffle(value)
    else:
        value[at] = _changed(value[at], rng)
    return value


def _other_text(value: str, rng: Random) -> str:
    at = rng.randrange(len(value) + 1)
    return rng.choice((value[:at], value[at:], value + value, value.upper(), value[:at] + text(rng) + value[at:]))


def _other(value: Any, rng: Random) -> Any:
    ways: Sequence[Any] = (scalar(rng), document(rng), [value], {"a": value}, str(value), nested(value, rng))
    return rng.choice(ways)


def nested(value: Any, rng: Random) -> Any:
    for _ in range(rng.choice((3, 30, 190))):
        value = [value]
    return value
