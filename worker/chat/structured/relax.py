"""Which parts of a schema the grammar cannot hold, and which part makes it useless. Pure, by trying.

llguidance refuses a schema as a whole. Instead of keeping a list of what it supports, which the next version would
prove wrong, we take constraints away until it accepts, give back as many as it takes, and report the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from worker.chat.structured.pointer import Path, Schema, children, look, replaced, walk

Problem = Callable[[Schema], str | None]
"""Compiles a schema: None, or the problem in one line."""

_OPTIONAL = frozenset({
    "uniqueItems", "contains", "minContains", "maxContains", "not", "if", "dependentSchemas", "dependentRequired",
    "dependencies", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "minProperties", "maxProperties",
    "format", "pattern", "patternProperties", "oneOf", "multipleOf", "$dynamicRef",
})  # fmt: skip
"""Keywords that only narrow down: without them a valid reply stays possible."""

_BELONGS_TO = {"then": "if", "else": "if"}


def relax(schema: Schema, problem: Problem) -> tuple[Schema, list[Path]] | None:
    """The schema with as few constraints dropped as it takes, and their paths; None when dropping does not help."""
    optional = _optional(schema)
    if problem(_without(schema, optional)) is not None:
        return None
    dropped = _give_back(schema, optional, problem)
    return _without(schema, dropped), dropped


def blame(schema: Schema, problem: Problem) -> tuple[Path, str]:
    """The innermost place at fault when `relax` found no way, and what is wrong there.

    That place replaced by `true`, the problem is gone or is another one.
    """
    original, schema = schema, _without(schema, _optional(schema))
    found = problem(schema) or ""
    path: Path = ()
    while True:
        inner = [path + child for child in children(look(schema, path))]
        count = _fewest(schema, inner, lambda trial: _other(problem(trial), found))
        if count is None:
            return _as_written(original, path + _keyword(schema, path, problem, found)), found
        schema = _all_true(schema, inner[: count - 1])
        path = inner[count - 1]


def _optional(schema: Schema) -> list[Path]:
    return [(*path, key) for path, node in walk(schema) for key in node if _droppable(node, key)]


def _as_written(schema: Schema, path: Path) -> Path:
    """The path in the caller's schema, where an `anyOf` of ours may be a `oneOf`."""
    written: list[str | int] = []
    for part in path:
        if isinstance(schema, dict) and part not in schema:
            part = "oneOf"  # noqa: PLW2901  # the name it had
            if part not in schema:
                break
        written.append(part)
        schema = schema[part]
    return tuple(written)


def _droppable(node: dict[str, Any], key: str) -> bool:
    if key not in _OPTIONAL:
        return False
    return not (key == "pattern" and not _is_regex(node[key]))


def _is_regex(pattern: object) -> bool:
    """A pattern that is wrong in itself is the caller's mistake; one that is only too clever can be left out."""
    try:
        return isinstance(pattern, str) and re.compile(pattern) is not None
    except re.error:
        return False


def _give_back(schema: Schema, group: list[Path], problem: Problem) -> list[Path]:
    """Of the constraints in `group`, those that must stay dropped. Halves the group until it knows."""
    kept: list[Path] = []  # known to be impossible
    todo = [group]
    while todo:
        part = todo.pop()
        waiting = [path for other in todo for path in other]
        if problem(_without(schema, [*kept, *waiting])) is None:
            continue
        if len(part) == 1:
            kept.append(part[0])
        else:
            middle = len(part) // 2
            todo += [part[middle:], part[:middle]]
    return sorted(kept, key=group.index)


def _without(schema: Schema, paths: Sequence[Path]) -> Schema:
    """Drop keywords, the innermost first, so that the outer paths stay right."""
    for path in sorted(paths, key=len, reverse=True):
        schema = replaced(schema, path[:-1], _without_key(look(schema, path[:-1]), str(path[-1])))
    return schema


def _without_key(node: dict[str, Any], key: str) -> dict[str, Any]:
    rest = {k: v for k, v in node.items() if k != key and _BELONGS_TO.get(k) != key}
    if key != "oneOf":
        return rest
    if "anyOf" not in node:  # at least one instead of exactly one, at the same place in the order of properties
        return {("anyOf" if k == "oneOf" else k): v for k, v in node.items()}
    return {**rest, "allOf": [*node.get("allOf", []), {"anyOf": node["oneOf"]}]}


def _fewest(schema: Schema, paths: list[Path], good: Callable[[Schema], bool]) -> int | None:
    """How many of the first `paths` have to become `true` to make it good; None when all of them do not help."""
    if not paths or not good(_all_true(schema, paths)):
        return None
    low, high = 1, len(paths)
    while low < high:
        middle = (low + high) // 2
        if good(_all_true(schema, paths[:middle])):
            high = middle
        else:
            low = middle + 1
    return low


def _all_true(schema: Schema, paths: Sequence[Path]) -> Schema:
    for path in paths:
        schema = replaced(schema, path, True)  # noqa: FBT003  # `true` is a schema
    return schema


def _keyword(schema: Schema, path: Path, problem: Problem, found: str) -> Path:
    """The keyword at fault, `type` only if it is no other."""
    node = look(schema, path)
    keys = sorted(node, key="type".__eq__) if isinstance(node, dict) else ()
    for key in keys:
        rest = {k: v for k, v in node.items() if k != key}
        if _other(problem(replaced(schema, path, rest)), found):
            return (key,)
    return ()


def _other(now: str | None, before: str) -> bool:
    """Whether the problem is gone. A reference into what we replaced is a problem of our making."""
    return now != before and not (now or "").startswith("Pointer")
