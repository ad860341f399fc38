"""Random JSON schemas that some value satisfies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "name", "value", "é", "x y", 'q"', "a/b"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.text('ab"\\é\n', max_size=4))


@st.composite
def _integers(draw: st.DrawFn) -> Schema:
    low = draw(st.integers(-1000, 1000))
    schema: Schema = {"type": "integer"}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.integers(10, 300))
    if draw(st.integers(0, 4)) == 0:
        schema["multipleOf"] = draw(st.integers(1, 5))
    return schema


@st.composite
def _numbers(draw: st.DrawFn) -> Schema:
    low = draw(st.sampled_from([-12.5, -1, 0, 0.25, 3]))
    schema: Schema = {"type": "number"}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.sampled_from([0.5, 1, 100.25]))
    return schema


@st.composite
def _strings(draw: st.DrawFn) -> Schema:
    kind = draw(st.sampled_from(["plain", "length", "pattern", "format"]))
    if kind == "length":
        low = draw(st.integers(0, 4))
        return {"type": "string", "minLength": low, "maxLength": low + draw(st.integers(0, 5))}
    if kind == "pattern":
        patterns = ["^[a-z]{2,4}$", "^[0-9]{5}(-[0-9]{4})?$", "^(foo|bar)+$", "^\\d+\\.\\d{2}$", "b", "^a"]
        return {"type": "string", "pattern": draw(st.sampled_from(patterns))}
    if kind == "format":
        return {"type": "string", "format": draw(st.sampled_from(["date", "ipv4", "uuid", "time"]))}
    return {"type": "string"}


def _arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    @st.composite
    def arrays(draw: st.DrawFn) -> Schema:
        low = draw(st.integers(0, 2))
        schema: Schema = {
            "type": "array",
            "items": draw(inner),
            "minItems": low,
            "maxItems": low + draw(st.integers(0, 3)),
        }
        if draw(st.integers(0, 3)) == 0:
            schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=2))
        return schema

    return arrays()


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    @st.composite
    def objects(draw: st.DrawFn) -> Schema:
        properties = draw(st.dictionaries(NAMES, inner, max_size=4))
        schema: Schema = {"type": "object", "properties": properties}
        schema["required"] = [name for name in properties if draw(st.booleans())]
        extra = draw(st.sampled_from([False, False, None, "schema"]))
        if extra is not None:
            schema["additionalProperties"] = draw(inner) if extra == "schema" else extra
        return schema

    return objects()


def _fixed() -> st.SearchStrategy[Schema]:
    values = st.recursive(
        SCALARS, lambda v: st.one_of(st.lists(v, max_size=2), st.dictionaries(NAMES, v, max_size=2))
    )
    return st.one_of(
        st.builds(lambda v: {"const": v}, values),
        st.builds(lambda v: {"enum": v}, st.lists(values, min_size=1, max_size=4)),
        st.builds(
            lambda v: {"type": v}, st.sampled_from(["boolean", "null", ["string", "null"], ["integer", "boolean"]])
        ),
    )


def _choices(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3))


def _linked(draw: st.DrawFn, schema: Schema) -> Schema:
    """Put a recursive definition beside it, and a property that refers to it."""
    node = {
        "type": "object",
        "properties": {"v": schema, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["v", "next"],
        "additionalProperties": False,
    }
    return (
        {"$defs": {"node": node}, "$ref": "#/$defs/node"}
        if draw(st.booleans())
        else {
            "$defs": {"node": node},
            "type": "object",
            "properties": {"list": {"$ref": "#/$defs/node"}},
            "required": ["list"],
        }
    )


_LEAVES = st.one_of(_integers(), _numbers(), _strings(), _fixed())
_NESTED = st.recursive(
    _LEAVES, lambda inner: st.one_of(_arrays(inner), _objects(inner), _objects(inner), _choices(inner)), max_leaves=8
)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    schema = draw(_NESTED)
    return _linked(draw, schema) if draw(st.integers(0, 4)) == 0 else schema
