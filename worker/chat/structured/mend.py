"""Rewriting what llguidance 1.9 gets wrong into what it gets right. Pure; each rule has its test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.chat.structured.pointer import Schema, look, replaced, walk

_NUDGE = 1e-9
_EXACT = 1_000_000
"""Up to here a bound plus the nudge is still another number with few digits."""

_Pick = Callable[[float, float], float]


def mend(schema: Schema) -> Schema:
    """The same schema, except that numbers closer than 1e-9 to an exclusive whole bound are left out.

    `{"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}` lets "0" through: an exclusive whole bound is not
    held when the other bound has the same whole part.
    """
    for path, _ in walk(schema):
        node = look(schema, path)
        mended = _bound(_bound(node, "Minimum", 1, max), "Maximum", -1, min)
        if mended is not node:
            schema = replaced(schema, path, mended)
    return schema


def _bound(node: dict[str, Any], name: str, direction: int, tighter: _Pick) -> dict[str, Any]:
    exclusive, inclusive = f"exclusive{name}", name.lower()
    bound = node.get(exclusive)
    if isinstance(bound, bool) or not isinstance(bound, int | float) or bound != int(bound) or abs(bound) > _EXACT:
        return node
    nudged = bound + direction * _NUDGE
    other = node.get(inclusive, nudged)
    if isinstance(other, bool) or not isinstance(other, int | float):
        return node  # the caller's mistake, reported as it is
    rest = {key: value for key, value in node.items() if key != exclusive}
    return {**rest, inclusive: tighter(nudged, other)}
