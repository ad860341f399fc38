"""Schemas are compiled, relaxed as little as it takes and said so, or refused at the right place."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import BadRequestError
from tests.worker.chat.structured.toy_vocab import tokens_of, toy_vocab
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.schema import compile_schema, json_object

VOCAB = toy_vocab()


def accepts(compiled: Compiled, text: str) -> bool:
    try:
        return VOCAB.constraint(compiled.grammar(), tokens_of(text.encode())).is_accepting
    except BadRequestError:
        return False


RECURSIVE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object"}, ["{}", '{"a": [1, {"b": null}]}', '{\n  "a": true\n}'], ["[]", '{"a":}', "{} "]),
        ({"enum": [1, "a", None, {"x": [1]}]}, ["1", '"a"', "null", '{"x":[1]}'], ["2", '"b"', '{"x":[]}']),
        ({"const": {"a": [1, 2]}}, ['{"a":[1,2]}', '{"a": [1, 2]}'], ['{"a":[1]}']),
        ({"type": "integer", "minimum": 5, "maximum": 17}, ["5", "12", "17"], ["4", "18", "5.5", "05"]),
        ({"type": "integer", "multipleOf": 5}, ["0", "25"], ["7"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"éé\\n"'], ['"a"', '"abcd"']),
        ({"type": "string", "pattern": "^[0-9]{3}$"}, ['"123"'], ['"12"', '"1234"']),
        ({"type": "string", "format": "date"}, ['"2026-11-21"'], ['"tomorrow"', '"2026-13-01"']),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}, ["[true]"], ["[]", "[1]"]),
        ({"prefixItems": [{"type": "integer"}], "items": False, "type": "array"}, ["[1]"], ['["a"]', "[1, 2]"]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["1", "null"], ['"1"']),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, ["1", '"a"'], ["null"]),
        (
            {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
            ['{"a": 1}'],
            ["{}", '{"a": "x"}'],
        ),
        (RECURSIVE, ['{"v": 1, "next": null}', '{"v": 1, "next": {"v": 2, "next": null}}'], ['{"v": 1}']),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
            ["{}", '{"a": 1, "b": "x"}', '{"b": "x"}'],
            ['{"b": 1}', '{"a": "x"}'],
        ),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, ['{"a": 1}'], ['{"b": 1}']),
        (True, ["1", "[]"], ["x"]),
    ],
)  # fmt: skip
def test_what_is_supported(schema: Any, good: list[str], bad: list[str]) -> None:
    compiled = compile_schema(schema)
    assert compiled.not_enforced == ()
    assert [text for text in good if not accepts(compiled, text)] == []
    assert [text for text in bad if accepts(compiled, text)] == []


@pytest.mark.parametrize(
    ("schema", "pointers"),
    [
        ({"type": "array", "uniqueItems": True}, ("/uniqueItems",)),
        ({"type": "array", "contains": {"type": "integer"}}, ("/contains",)),
        ({"not": {"type": "string"}}, ("/not",)),
        ({"if": {"type": "string"}, "then": {"minLength": 3}, "else": {}}, ("/if",)),
        ({"type": "string", "format": "phone"}, ("/format",)),
        ({"type": "string", "pattern": "^(?=a)b"}, ("/pattern",)),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 2}, ("/minProperties",)),
        ({"oneOf": [{"type": "integer", "multipleOf": 2}, {"type": "integer", "multipleOf": 3}]}, ("/oneOf",)),
        (
            {
                "type": "object",
                "properties": {
                    "a/b": {"type": "array", "uniqueItems": True, "items": {"type": "string", "format": "x"}},
                    "c~": {"type": "string", "format": "date"},
                },
            },
            ("/properties/a~1b/uniqueItems", "/properties/a~1b/items/format"),
        ),
        ({"$defs": {"x": {"type": "array", "uniqueItems": True}}, "$ref": "#/$defs/x"}, ("/$defs/x/uniqueItems",)),
    ],
)
def test_what_cannot_be_enforced_is_named_and_nothing_else(schema: Any, pointers: tuple[str, ...]) -> None:
    assert compile_schema(schema).not_enforced == pointers


def test_the_rest_is_still_enforced() -> None:
    compiled = compile_schema({"type": "array", "uniqueItems": True, "items": {"type": "integer"}, "maxItems": 2})
    assert accepts(compiled, "[1, 1]")
    assert not accepts(compiled, '["a"]')
    assert not accepts(compiled, "[1, 2, 3]")


def test_alternatives_of_which_several_match_are_still_alternatives() -> None:
    overlapping = [{"type": "integer", "multipleOf": 2}, {"type": "integer", "multipleOf": 3}]
    for schema in ({"oneOf": overlapping}, {"oneOf": overlapping, "anyOf": [{"maximum": 20}]}):
        compiled = compile_schema(schema)
        assert compiled.not_enforced == ("/oneOf",)
        assert accepts(compiled, "4")
        assert not accepts(compiled, "5")


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "strin"}, "/type"),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": {"type": 3}}}},
            "/properties/a/items/type",
        ),
        ({"$ref": "https://example.com/x.json"}, "/$ref"),
        ({"type": "object", "properties": {"x": {"$ref": "#/$defs/nope"}}}, "/properties/x/$ref"),
        ({"type": "string", "pattern": "(["}, "/pattern"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "/minimum"),
        ({"type": "object", "required": "a"}, "/required"),
        ({"type": "integer", "minimum": "x"}, "/minimum"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "/properties/a"),
        ({"enum": []}, "/enum"),
        ({"anyOf": [{"type": "integer"}, {"type": "x"}]}, "/anyOf/1/type"),
        (
            {"type": "object", "properties": {"u": {"uniqueItems": True}, "b": {"minLength": "x"}}},
            "/properties/b/minLength",
        ),
        (
            {"oneOf": [{"type": "integer", "multipleOf": 2}, {"type": "x"}]},
            "/oneOf/1/type",
        ),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused_where_it_does_not(schema: Any, pointer: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        compile_schema(schema)
    assert caught.value.code == "bad_schema"
    assert f"at {pointer}: " in caught.value.message


@pytest.mark.parametrize(
    "schema", [3, "object", None, [], False, {"minimum": float("inf")}, {"description": "x" * 300_000}]
)
def test_what_is_no_schema_is_refused_at_the_root(schema: Any) -> None:
    with pytest.raises(BadRequestError, match="at the root"):
        compile_schema(schema)


def test_a_schema_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(BadRequestError, match="nested"):
        compile_schema(schema)


def test_callers_cannot_set_the_compiler_s_options() -> None:
    compiled = compile_schema({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True})
    assert compiled.not_enforced == ("/uniqueItems",)


def test_blanks_are_bounded() -> None:
    """A small model left free writes blanks until its budget ends."""
    assert accepts(json_object(), '{\n    "a": 1}')
    assert not accepts(json_object(), '{  "a": 1}')


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "0"),
        ({"type": "number", "minimum": -3.5, "exclusiveMaximum": -3}, "-3"),
        ({"type": "number", "exclusiveMinimum": 3, "minimum": 1, "maximum": 3.5}, "3"),
    ],
)
def test_exclusive_whole_bounds_are_held(schema: Any, wrong: str) -> None:
    compiled = compile_schema(schema)
    assert not accepts(compiled, wrong)
    assert any(accepts(compiled, good) for good in ("0.25", "-3.25", "3.25"))


def test_a_bound_that_is_held_anyway_is_left_alone() -> None:
    compiled = compile_schema({"type": "number", "minimum": 0.5, "exclusiveMaximum": 2})
    assert [text for text in ("0.5", "1.9", "1.99") if not accepts(compiled, text)] == []
    assert not accepts(compiled, "2")


def test_digits_are_bounded() -> None:
    """A small model left free writes digits until its budget ends."""
    integer = compile_schema({"type": ["integer", "null"], "minimum": 1})
    assert [text for text in ("9223372036854770000", "null") if not accepts(integer, text)] == []
    assert not accepts(integer, "1" * 20)
    number = compile_schema({"type": "number", "minimum": 0})
    assert [text for text in ("0", "1.5", "0.123456789", "12345678901234567.5") if not accepts(number, text)] == []
    assert not accepts(number, "0." + "1" * 10)
    assert not accepts(number, "1" * 21)


def test_numbers_without_bounds_keep_their_exponent() -> None:
    assert accepts(compile_schema({"type": "number"}), "6.02214076e23")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 10**18},
        {"type": "integer", "maximum": -(10**18)},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
        {"type": "integer", "exclusiveMinimum": -(10**30), "minimum": -(10**20)},
        {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308},
        {"type": "integer", "enum": [10**25]},
        {"type": "integer", "const": 10**25},
    ],
)
def test_large_numbers_that_are_asked_for_are_possible(schema: Any) -> None:
    assert compile_schema(schema).not_enforced == ()
