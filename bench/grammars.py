"""llama.cpp's grammar sampler or llguidance: `python -m bench.grammars` (docs/decisions/0005).

What each holds of JSON Schema (a valid text must pass, an invalid one must not), and what a token costs with a real
vocabulary, following fixed texts. Takes about half a minute; needs the vocabulary only, no weights.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from llama_cpp.llama_grammar import json_schema_to_gbnf

from tasks.errors import BadRequestError
from worker.chat.structured.gbnf import compile_gbnf
from worker.chat.structured.schema import compile_schema
from worker.chat.toolcalls.family import HERMES
from worker.chat.toolcalls.forced import Tool, possible_calls
from worker.engine.grammar import Constraint, GrammarVocab, MaskAhead

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["street", "zip"],
            "additionalProperties": False,
        },
        "kind": {"enum": ["poet", "engineer", "both"]},
    },
    "required": ["name", "age", "tags", "address", "kind"],
    "additionalProperties": False,
}
ADA = (
    '{"name": "Ada Lovelace", "age": 36, "tags": ["mathematics", "analytical engine", "poetry"], '
    '"address": {"street": "12 St James\'s Square, London", "zip": "12345"}, "kind": "both"}'
)
JSON_GBNF = r"""
root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
LETTER = (
    "Dear reader, the weather in Paris is mild this week, with a little rain on Tuesday < 5 mm. Take an umbrella, "
    "and if you can, walk along the river in the evening: the light is worth it.\n"
)


@dataclass(frozen=True)
class Case:
    feature: str
    schema: Any
    good: tuple[str, ...]
    bad: tuple[str, ...]


def _object(**properties: Any) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_NODE = _object(v={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
_MIXED = {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2, "type": "array"}
CASES = (
    Case("nested objects", _object(a=_object(b={"type": "null"})), ('{"a": {"b": null}}',), ('{"a": {}}', "{}")),
    Case("array, min/maxItems", {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
         ("[true]", "[true, false]"), ("[]", "[true, true, true]", "[1]")),
    Case("tuple (prefixItems)", _MIXED, ('[1, "a"]',), ('["a", 1]', "[1]", '[1, "a", 2]')),
    Case("enum, mixed", {"enum": [1, "a", None]}, ("1", '"a"', "null"), ('"b"', "2")),
    Case("const", {"const": "x"}, ('"x"',), ('"y"',)),
    Case("const object", {"const": {"a": [1]}}, ('{"a": [1]}',), ('{"a": []}',)),
    Case("integer bounds", {"type": "integer", "minimum": 5, "maximum": 17}, ("5", "17"), ("4", "18")),
    Case("number bounds", {"type": "number", "minimum": 0.5, "exclusiveMaximum": 2}, ("0.5", "1.99"), ("0.4", "2")),
    Case("multipleOf", {"type": "integer", "multipleOf": 5}, ("10",), ("7",)),
    Case("string length", {"type": "string", "minLength": 2, "maxLength": 3}, ('"ab"', '"abc"'), ('"a"', '"abcd"')),
    Case("pattern", {"type": "string", "pattern": "^[0-9]{3}$"}, ('"123"',), ('"12"', '"abc"')),
    Case("pattern, unanchored", {"type": "string", "pattern": "b+"}, ('"abc"',), ('"ac"',)),
    Case("format date", {"type": "string", "format": "date"}, ('"2026-11-21"',), ('"today"',)),
    Case("format email", {"type": "string", "format": "email"}, ('"a@b.org"',), ('"ab"',)),
    Case("$ref, $defs", {"$defs": {"n": {"type": "integer"}}, **_object(a={"$ref": "#/$defs/n"})},
         ('{"a": 1}',), ('{"a": "x"}',)),
    Case("$ref, recursive", {"$defs": {"node": _NODE}, "$ref": "#/$defs/node"},
         ('{"v": 1, "next": {"v": 2, "next": null}}',), ('{"v": 1, "next": {"v": 2}}',)),
    Case("anyOf", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, ("1", "null"), ('"1"',)),
    Case("anyOf beside properties", {**_object(a={}), "anyOf": [_object(a={"type": "integer"})]},
         ('{"a": 1}',), ('{"a": "x"}',)),
    Case("allOf", {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]}, ("4",), ("2", "6")),
    Case("additionalProperties false", _object(a={"type": "integer"}), ('{"a": 1}',), ('{"a": 1, "b": 2}',)),
    Case("additionalProperties schema", {"type": "object", "additionalProperties": {"type": "integer"}},
         ('{"x": 1, "y": 2}',), ('{"x": "a"}',)),
    Case("open object (default)", {"type": "object", "properties": {"a": {"type": "integer"}}},
         ('{"a": 1, "b": "x"}',), ('{"a": "x"}',)),
    Case("patternProperties", {"type": "object", "patternProperties": {"^x": {"type": "integer"}},
                               "additionalProperties": False}, ('{"x1": 1}',), ('{"y": 1}', '{"x1": "a"}')),
    Case("minProperties of a map", {"type": "object", "additionalProperties": {}, "minProperties": 1},
         ('{"a": 1}',), ("{}",)),
)  # fmt: skip


class Native:
    """llama.cpp's sampler for one sequence."""

    def __init__(self, vocab: Any, size: int, gbnf: str) -> None:
        self._sampler = lib.llama_sampler_init_grammar(vocab, gbnf.encode(), b"root")
        if not self._sampler:
            raise ValueError("llama.cpp does not take the grammar")
        self._all = (lib.llama_token_data * size)()
        self._rows = np.frombuffer(self._all, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        self._rows["id"] = np.arange(size)
        self._one = (lib.llama_token_data * 1)()

    def mask(self, row: np.ndarray) -> None:
        """What a step costs: candidates from logits, the grammar over all of them."""
        self._rows["logit"] = row
        array = lib.llama_token_data_array(self._all, len(self._rows), -1, False)  # noqa: FBT003  # a C struct
        lib.llama_sampler_apply(self._sampler, ctypes.byref(array))

    def allows(self, token: int) -> bool:
        self._one[0] = lib.llama_token_data(token, 1.0, 0.0)
        array = lib.llama_token_data_array(self._one, 1, -1, False)  # noqa: FBT003  # a C struct
        lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return bool(self._one[0].logit == 1.0)

    def accept(self, token: int) -> None:
        """Only what is allowed: anything else aborts the process inside llama.cpp."""
        lib.llama_sampler_accept(self._sampler, token)

    def free(self) -> None:
        lib.llama_sampler_free(self._sampler)


class Bench:
    def __init__(self, model: Path) -> None:
        params = lib.llama_model_default_params()
        params.vocab_only = True
        self._model = lib.llama_model_load_from_file(str(model).encode(), params)
        self.vocab = lib.llama_model_get_vocab(self._model)
        self.size = lib.llama_vocab_n_tokens(self.vocab)
        self.eog = [token for token in range(self.size) if lib.llama_vocab_is_eog(self.vocab, token)]
        started = time.perf_counter()
        self.guide = GrammarVocab.read(self.vocab, eog=self.eog)
        self.vocab_ms = 1000 * (time.perf_counter() - started)
        self.row = np.random.default_rng(0).standard_normal(self.size).astype(np.float32)

    def tokens(self, text: str) -> list[int]:
        data = text.encode()
        ids = (lib.llama_token * (len(data) + 8))()
        count = lib.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, False)  # noqa: FBT003  # a C call
        return ids[:count]

    def native(self, gbnf: str) -> Native:
        return Native(self.vocab, self.size, gbnf)

    # ------------------------------------------------------------ coverage

    def native_accepts(self, gbnf: str, text: str) -> bool:
        sampler = self.native(gbnf)
        try:
            for token in self.tokens(text):
                if not sampler.allows(token):
                    return False
                sampler.accept(token)
            return sampler.allows(self.eog[0])
        finally:
            sampler.free()

    def guide_accepts(self, grammar: str, text: str) -> bool:
        try:
            return self.guide.constraint(grammar, self.tokens(text)).is_accepting
        except BadRequestError:
            return False

    def verdict(self, case: Case, compile_: Callable[[Any], str], accepts: Callable[[str, str], bool]) -> str:
        try:
            grammar = compile_(case.schema)
            refused = [text for text in case.good if not accepts(grammar, text)]
            passed = [text for text in case.bad if accepts(grammar, text)]
        except Exception as exc:  # noqa: BLE001  # whatever a converter raises is a "no"
            return f"no ({type(exc).__name__})"
        if not refused and not passed:
            return "yes"
        return " and ".join(
            [f"refuses {text}" for text in refused[:1]] + [f"lets {text} through" for text in passed[:1]]
        )

    def coverage(self) -> None:
        print("| feature | llama.cpp (json_schema_to_gbnf) | llguidance |\n|---|---|---|")
        for case in CASES:
            native = self.verdict(case, lambda schema: json_schema_to_gbnf(json.dumps(schema)), self.native_accepts)
            guide = self.verdict(case, lambda schema: compile_schema(schema).grammar(), self.guide_accepts)
            print(f"| {case.feature} | {native} | {guide} |")

    # ------------------------------------------------------------ cost

    def follow(self, make: Callable[[], Any], text: str, batch: int) -> Iterator[tuple[float, float]]:
        """Milliseconds of (masks, accepts) of each step with `batch` sequences side by side."""
        sequences = [make() for _ in range(batch)]
        rows = [self.row.copy() for _ in sequences]
        for token in self.tokens(text):
            for row in rows:
                row[:] = self.row
            started = time.perf_counter()
            for sequence, row in zip(sequences, rows, strict=True):
                sequence.mask(row)
            masked = time.perf_counter()
            for sequence in sequences:
                sequence.accept(token)
            yield 1000 * (masked - started), 1000 * (time.perf_counter() - masked)

    def cost(self, name: str, make: Callable[[], Any], text: str, *, rounds: int = ROUNDS) -> None:
        for batch in (1, 8):
            steps = [step for _ in range(rounds) for step in self.follow(make, text, batch)]
            masks = sorted(mask for mask, _ in steps)
            print(
                f"| {name} | {batch} | {median(masks):.3f} | {sum(masks) / len(masks):.3f} "
                f"| {masks[int(0.99 * len(masks))]:.3f} | {median(accept for _, accept in steps):.3f} |"
            )

    def check(self, name: str, make: Callable[[], Any], text: str) -> None:
        sequence, spent = make(), []
        for token in self.tokens(text):
            started = time.perf_counter()
            sequence.allows(token)
            spent.append(1000 * (time.perf_counter() - started))
            sequence.accept(token)
        print(f"| {name} | {median(spent):.3f} |")

    def maker(self, grammar: str) -> Callable[[], Constraint]:
        return lambda: self.guide.constraint(grammar)

    def ahead(self, grammar: str, text: str, batch: int) -> tuple[float, float]:
        """Median ms on the engine's side of a step with masks computed inline, and on another thread."""
        inline = [
            sum(step)
            for _ in range(ROUNDS)
            for step in self.follow(lambda: self.guide.constraint(grammar), text, batch)
        ]
        pool, spent = MaskAhead(), []
        constraints: list[Constraint] = [self.guide.constraint(grammar) for _ in range(batch)]
        for token in self.tokens(text):
            rows = [self.row.copy() for _ in constraints]
            started = time.perf_counter()
            pool.start(constraints)
            submitted = time.perf_counter()
            time.sleep(0.005)  # stands for llama_decode, which holds no GIL either
            resumed = time.perf_counter()
            pool.wait()
            for constraint, row in zip(constraints, rows, strict=True):
                constraint.mask(row)
                constraint.accept(token)
            spent.append(1000 * (submitted - started + time.perf_counter() - resumed))
        pool.close()
        return median(inline), median(spent)

    def costs(self) -> None:
        person, gbnf = compile_schema(PERSON).grammar(), json_schema_to_gbnf(json.dumps(PERSON))
        own = compile_gbnf(JSON_GBNF).grammar()
        free = possible_calls(HERMES, [Tool("save", PERSON)])
        assert free is not None
        call = LETTER + '<tool_call>\n{"name": "save", "arguments": ' + ADA + "}\n</tool_call>"
        print("\n| grammar, text | sequences | mask ms median | mean | p99 | accept ms median |")
        print("|---|---|---|---|---|---|")
        self.cost("llama.cpp, schema", lambda: self.native(gbnf), ADA, rounds=2)
        self.cost("llguidance, schema", self.maker(person), ADA)
        self.cost("llama.cpp, GBNF of JSON", lambda: self.native(JSON_GBNF), ADA, rounds=2)
        self.cost("llguidance, GBNF of JSON", self.maker(own), ADA)
        self.cost("llguidance, free text before a call", self.maker(free.grammar()), LETTER)
        self.cost("llguidance, free text and the call", self.maker(free.grammar()), call)
        print("\n| is one token allowed | ms median |\n|---|---|")
        self.check("llama.cpp, schema", lambda: self.native(gbnf), ADA)
        self.check("llguidance, schema", self.maker(person), ADA)
        self.check("llguidance, GBNF of JSON", self.maker(own), ADA)
        print("\n| engine's side of a step, 8 sequences | inline ms | another thread ms |\n|---|---|---|")
        for name, grammar in (("schema", person), ("GBNF of JSON", own)):
            inline, other = self.ahead(grammar, ADA, 8)
            print(f"| {name} | {inline:.3f} | {other:.3f} |")
        started = time.perf_counter()
        for _ in range(20):
            self.guide.constraint(person)
        print(f"\ntokenizer for {self.size} tokens, once a model: {self.vocab_ms:.0f} ms")
        print(f"new constraint: {1000 * (time.perf_counter() - started) / 20:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    parser.add_argument("--model", type=Path, default=Path(os.environ.get("PENDRA_TEST_MODEL", default)))
    args = parser.parse_args()
    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, None)
    lib.llama_backend_init()
    bench = Bench(args.model)
    bench.coverage()
    bench.costs()
    lib.llama_log_set(lib.llama_log_callback(), None)


if __name__ == "__main__":
    main()
