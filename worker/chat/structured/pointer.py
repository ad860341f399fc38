"""Walking a JSON schema: where its subschemas are, and changing one place without touching the rest. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
Schema = Any
"""A JSON schema: an object or a boolean. Anything else is the caller's mistake, found by compiling it."""

_ONE = (
    "items", "additionalItems", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAP = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def pointer(path: Path) -> str:
    """RFC 6901; the whole document is the empty string."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def children(schema: Schema) -> list[Path]:
    """Paths of the subschemas directly below, in the order they are written."""
    return list(_children(schema)) if isinstance(schema, dict) else []


def _children(schema: dict[str, Any]) -> Iterator[Path]:
    for key, value in schema.items():
        if key in _ONE and isinstance(value, dict | bool):
            yield (key,)
        elif key in _LIST and isinstance(value, list):
            yield from ((key, index) for index in range(len(value)))
        elif key in _MAP and isinstance(value, dict):
            yield from ((key, name) for name in value)


def walk(schema: Schema, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every subschema that is an object, the outer before the inner."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for child in children(schema):
        yield from walk(look(schema, child), path + child)


def look(document: Any, path: Path) -> Any:
    for part in path:
        document = document[part]
    return document


def replaced(document: Any, path: Path, value: Any) -> Any:
    """A copy with `value` at `path`; what is not on the way is shared."""
    if not path:
        return value
    part, rest = path[0], path[1:]
    copy = list(document) if isinstance(document, list) else dict(document)
    copy[part] = replaced(document[part], rest, value)  # type: ignore[index]
    return copy


def depth(document: Any) -> int:
    """How deep objects and lists are nested; no recursion, so that a hostile document cannot exhaust the stack."""
    deepest, todo = 0, [(document, 1)]
    while todo:
        value, level = todo.pop()
        if isinstance(value, dict | list):
            deepest = max(deepest, level)
            inner = value.values() if isinstance(value, dict) else value
            todo.extend((item, level + 1) for item in inner)
    return deepest
