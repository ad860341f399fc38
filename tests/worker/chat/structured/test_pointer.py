"""Subschemas are found where JSON Schema has them, and places are changed without touching the original."""

from __future__ import annotations

import pytest

from worker.chat.structured.pointer import children, depth, look, pointer, replaced, walk


@pytest.mark.parametrize(
    ("path", "text"), [((), ""), (("a", 0), "/a/0"), (("a/b", "c~d"), "/a~1b/c~0d"), (("",), "/")]
)
def test_pointers_are_rfc_6901(path: tuple[str | int, ...], text: str) -> None:
    assert pointer(path) == text


def test_only_subschemas_are_walked() -> None:
    schema = {
        "properties": {"items": {"enum": [{"not": 1}]}},
        "items": [{"a": 1}, True],
        "additionalProperties": False,
        "const": {"anyOf": [{}]},
        "anyOf": [{"not": {}}],
        "default": {"properties": {"x": {}}},
    }
    assert children(schema) == [
        ("properties", "items"), ("items", 0), ("items", 1), ("additionalProperties",), ("anyOf", 0),
    ]  # fmt: skip
    assert [path for path, _ in walk(schema)] == [
        (), ("properties", "items"), ("items", 0), ("anyOf", 0), ("anyOf", 0, "not"),
    ]  # fmt: skip


def test_replacing_leaves_the_original() -> None:
    document = {"a": [{"b": 1}, 2]}
    assert replaced(document, ("a", 0, "b"), 5) == {"a": [{"b": 5}, 2]}
    assert document == {"a": [{"b": 1}, 2]}
    assert look(document, ("a", 0, "b")) == 1


def test_depth() -> None:
    assert depth(1) == 0
    assert depth({"a": [1, {"b": []}]}) == 4
