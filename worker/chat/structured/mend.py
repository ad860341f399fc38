"""Rewriting what llguidance 1.9 gets wrong into what it gets right. Pure; each rule has its test."""

from __future__ import annotations

from typing import Any, TypeGuard

from worker.chat.structured.pointer import Schema, look, replaced, walk

_NUDGE = 1e-9
_EXACT = 1_000_000
"""Up to here a bound plus the nudge is still another number with few digits."""


def mend(schema: Schema) -> Schema:
    """The same schema, except that some numbers closer than 1e-9 to an exclusive whole bound are left out.

    `{"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}` lets "0" through: an exclusive whole bound is not
    held when the other bound has the same whole part. Elsewhere it is, and nudging would do harm: below a maximum of
    1.999999999, llguidance refuses "1.9".
    """
    for path, _ in walk(schema):
        node = look(schema, path)
        mended = _nudged(_nudged(node, "Minimum", "Maximum", 1), "Maximum", "Minimum", -1)
        if mended is not node:
            schema = replaced(schema, path, mended)
    return schema


def _nudged(node: dict[str, Any], side: str, other: str, direction: int) -> dict[str, Any]:
    exclusive, inclusive = f"exclusive{side}", side.lower()
    bound = node.get(exclusive)
    others = [node[key] for key in (f"exclusive{other}", other.lower()) if _is_number(node.get(key))]
    if not _is_number(bound) or bound != int(bound) or abs(bound) > _EXACT:
        return node
    if not any(int(value) == bound for value in others):
        return node
    rest = {key: value for key, value in node.items() if key != exclusive}
    nudged = bound + direction * _NUDGE
    if _is_number(node.get(inclusive)) and (node[inclusive] - nudged) * direction > 0:
        return rest  # the inclusive bound is the tighter one
    return {**rest, inclusive: nudged}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
