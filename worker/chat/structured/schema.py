"""A JSON schema in, a grammar out; what cannot be held is reported, what makes no sense is refused."""

from __future__ import annotations

import functools
import json
from typing import Any

from llguidance import LLMatcher

from tasks.errors import BadRequestError
from worker.chat.structured.compiled import Compiled, problem_of
from worker.chat.structured.mend import mend
from worker.chat.structured.pointer import Schema, depth, pointer
from worker.chat.structured.relax import blame, relax

_MAX_DEPTH = 100
"""llguidance reads at most 128 levels, of which the grammar around the schema takes some."""
_MAX_BYTES = 256 * 1024
_WHITESPACE = r" |\n{1,2}[ \t]{0,20}"
"""llama.cpp's rule: a small model left free writes blanks until its budget ends."""


def compile_schema(schema: Any, *, param: str = "response_format") -> Compiled:
    """The grammar of JSON text that `schema` (draft 2020-12, older keywords understood) accepts.

    Properties come in the order they are declared. Raises BadRequestError `bad_schema`, naming the JSON pointer, for
    a schema that is wrong in itself, refers outside, or that nothing can satisfy. Compiling takes about a
    millisecond; results are remembered.
    """
    if not isinstance(schema, dict | bool):
        raise _bad(param, "", "a schema is an object or a boolean")
    if schema is False:
        raise _bad(param, "", "no value satisfies `false`")
    if depth(schema) > _MAX_DEPTH:
        raise _bad(param, "", f"it is nested more than {_MAX_DEPTH} levels deep")
    try:
        text = json.dumps(schema, allow_nan=False)
    except ValueError:
        raise _bad(param, "", "it has a number that JSON cannot write") from None
    if len(text) > _MAX_BYTES:
        raise _bad(param, "", f"it has {len(text)} bytes as JSON, more than the {_MAX_BYTES} allowed")
    return _compile(text, param)


def json_object() -> Compiled:
    """Any JSON object (`response_format` type `json_object`)."""
    return compile_schema({"type": "object"})


def json_rule(schema: Schema) -> str:
    """A Lark expression that matches the JSON text of one value of a compilable schema."""
    return "%json " + json.dumps(_with_options(schema))


def enforceable(text: str, param: str) -> tuple[str, tuple[str, ...]]:
    """The part of a schema (as JSON text) that a grammar can hold, as JSON text, and pointers to the rest.

    Raises like `compile_schema`.
    """
    schema = json.loads(text)
    if _problem(schema) is None:
        return text, ()
    relaxed = relax(schema, _problem)
    if relaxed is None:
        where, what = blame(schema, _problem)
        raise _bad(param, pointer(where), what)
    return json.dumps(relaxed[0]), tuple(pointer(path) for path in relaxed[1])


@functools.lru_cache(maxsize=256)
def _compile(text: str, param: str) -> Compiled:
    held, not_enforced = enforceable(text, param)
    return Compiled(f"body: {json_rule(json.loads(held))}\n", not_enforced)


def _problem(schema: Schema) -> str | None:
    return problem_of(LLMatcher.grammar_from_json_schema(json.dumps(_with_options(schema))))


def _with_options(schema: Schema) -> dict[str, Any]:
    """As llguidance gets it: our whitespace rule in its own key (callers cannot set its options), and mended."""
    rest = mend(schema) if isinstance(schema, dict) else {}
    return {**rest, "x-guidance": {"whitespace_pattern": _WHITESPACE}}


def _bad(param: str, where: str, what: str) -> BadRequestError:
    place = f"at {where}" if where else "at the root"
    return BadRequestError(f"the JSON schema cannot be used, {place}: {what}", code="bad_schema", param=param)
