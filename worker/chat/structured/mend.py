"""A schema as llguidance had better get it: what 1.9 gets wrong rewritten, numbers of finite length. Pure."""

from __future__ import annotations

from typing import Any, TypeGuard

from worker.chat.structured.pointer import Schema, look, replaced, walk

_NUDGE = 1e-9
_EXACT = 1_000_000
"""Up to here a bound plus the nudge is still another number with few digits."""


_LARGEST = 2**63 - 1024
"""The largest 64-bit integer that is a float, too; llguidance counts in both."""
_FINEST = 1e-9
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def mend(schema: Schema) -> Schema:
    """A schema whose values are values of the given one, too: almost all of them."""
    for path, _ in walk(schema):
        node = look(schema, path)
        mended = _finite(_nudged(_nudged(node, "Minimum", "Maximum", 1), "Maximum", "Minimum", -1))
        if mended is not node:
            schema = replaced(schema, path, mended)
    return schema


def _finite(node: dict[str, Any]) -> dict[str, Any]:
    """A small model left free writes digits until its budget ends.

    So integers stay within 64 bits (llguidance takes no wider bounds), and numbers that have a bound (llguidance
    writes those without exponent) have one on either side, and at most 9 decimals. Numbers without any bound stay
    free: they may need their exponent.
    """
    named = node.get("type")
    types = named if isinstance(named, list) else [named]
    low, high = _bounds(node, "Minimum"), _bounds(node, "Maximum")
    wrong = any(key in node and not _is_number(node[key]) for key in _BOUNDS)  # the caller's mistake, shown as it is
    if (
        wrong
        or "enum" in node
        or "const" in node
        or not ("integer" in types or ("number" in types and (low or high)))
    ):
        return node
    if all(bound > -_LARGEST for bound in high) and all(bound <= -_LARGEST for bound in low):
        node = {**_without(node, "Minimum"), "minimum": -_LARGEST}
    if all(bound < _LARGEST for bound in low) and all(bound >= _LARGEST for bound in high):
        node = {**_without(node, "Maximum"), "maximum": _LARGEST}
    return node if "integer" in types else {"multipleOf": _FINEST, **node}


def _without(node: dict[str, Any], side: str) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in {f"exclusive{side}", side.lower()}}


def _bounds(node: dict[str, Any], side: str) -> list[float]:
    return [node[key] for key in (f"exclusive{side}", side.lower()) if _is_number(node.get(key))]


def _nudged(node: dict[str, Any], side: str, other: str, direction: int) -> dict[str, Any]:
    """`{"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}` lets "0" through: an exclusive whole bound is not
    held when the other bound has the same whole part. Then, numbers closer to it than 1e-9 are given up.

    Elsewhere it is held, and nudging would do harm: below a maximum of 1.999999999, llguidance refuses "1.9".
    """
    exclusive, inclusive = f"exclusive{side}", side.lower()
    bound = node.get(exclusive)
    others = _bounds(node, other)
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
