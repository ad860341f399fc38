"""Which fields of a request ask for a shape, and what is wrong with those that ask wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import BadRequestError
from worker.chat.structured.request import structured_output
from worker.chat.structured.schema import compile_schema, json_object

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
COMPILED = compile_schema(SCHEMA)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        ({"response_format": None, "grammar": ""}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, (json_object(), False)),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, (COMPILED, False)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            (COMPILED, False),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}},
            (COMPILED, True),
        ),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, (COMPILED, False)),
        ({"json_schema": SCHEMA}, (COMPILED, False)),
    ],
)
def test_what_is_asked_for(body: dict[str, Any], expected: object) -> None:
    assert structured_output(body) == expected


def test_a_grammar_of_one_s_own() -> None:
    asked = structured_output({"grammar": 'root ::= "yes" | "no"', "response_format": {"type": "text"}})
    assert asked is not None
    assert not asked[0].json


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"response_format": "json"}, "response_format.type", "bad_request"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "bad_request"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "bad_request"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}, "response_format", "bad_schema"),
        ({"json_schema": {"type": "x"}}, "json_schema", "bad_schema"),
        ({"grammar": 3}, "grammar", "bad_request"),
        ({"grammar": "root"}, "grammar", "bad_grammar"),
        ({"grammar": "root ::= x", "json_schema": {}}, "grammar", "bad_request"),
    ],
)
def test_what_is_asked_for_wrongly(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        structured_output(body)
    assert (caught.value.param, caught.value.code) == (param, code)
