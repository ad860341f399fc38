"""GBNF means what it means in llama.cpp, and its mistakes are named with their line."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import BadRequestError
from tests.worker.chat.structured.test_schema import accepts
from tests.worker.chat.structured.toy_vocab import PIECES, tokens_of, toy_vocab
from worker.chat.structured.gbnf import compile_gbnf

JSON = r"""
# llama.cpp's own example
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (JSON, ['{"a": [1, -2.5e3, "x\\n\\u00e9"]}', "{}\n  "], ["[]", '{"a"}']),
        ('root ::= word "end"\nword ::= [a-z]+', ["abcend", "endend"], ["end", "abc"]),
        ('root ::= ws "x"\nws ::= ([ \\t\\n] ws)?', ["x", " \n\tx"], ["x "]),
        ('root ::= w\nw ::= [a-z] w | [0-9] | "."', ["a1", "ab.", "7"], ["a", "1a"]),
        ('root ::= "a" root "b" | ""', ["", "ab", "aabb"], ["aab"]),
        ('root ::= ("a" | "b"){2,3}', ["ab", "bbb"], ["a", "abab"]),
        ('root ::= "a"{2} "b"{0,1} "c"{1,}', ["aac", "aabccc"], ["ac", "aabbc"]),
        ('root ::= ("x"?)*', ["", "xx"], ["y"]),
        ("root ::= [^a-c\\n] .", ["xa", "é\n"], ["ab", "\nx"]),
        ("root ::= [a\\]-]", ["a", "]", "-"], ["\\"]),
        ('root ::= "\\u00e9" "\\x41" "\\U0001F600" "/"', ["éA😀/"], ["eA"]),
        ('root ::= # comment\n  "a" |\n  "b"\n', ["a", "b"], ["ab"]),
        ('root ::= x-1 x_2\nx-1 ::= "a"\nx_2 ::= "b"', ["ab"], ["a"]),
    ],
)
def test_what_grammars_mean(grammar: str, good: list[str], bad: list[str]) -> None:
    compiled = compile_gbnf(grammar)
    assert not compiled.json
    assert [text for text in good if not accepts(compiled, text)] == []
    assert [text for text in bad if accepts(compiled, text)] == []


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "no rule named root"),
        ('x ::= "a"', "no rule named root"),
        ('root ::= "a"\nx ::= foo', "line 2: the rule 'foo' is used but not defined"),
        ("root ::= [a-", "line 1"),
        ('root ::= "a"\n\nx ::= "abc', "line 3: this string is not closed"),
        ('root ::= ("a"', r"line 1: this \( is not closed"),
        ('root = "a"', "line 1: expected ::="),
        ('root ::= "a" )', "line 1: expected the end of the rule"),
        ('root ::= "\\q"', "line 1: unknown escape"),
        ('root ::= "\\ud800"', "not a Unicode character"),
        ("root ::= <think>", "no token of this name"),
        ('root ::= "a"{3,1}', "end before they begin"),
        ('root ::= "a"{,}', "repetitions are written"),
        ('root ::= "a"{9999}', "up to 2000"),
        ("root ::= [z-a]", "backwards"),
        ("root ::= []", "matches nothing"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "brackets inside each other"),
        ("#" * 300_000, "characters"),
    ],
)
def test_mistakes_are_named(grammar: str, message: str) -> None:
    with pytest.raises(BadRequestError, match=message) as caught:
        compile_gbnf(grammar)
    assert caught.value.code == "bad_grammar"
    assert caught.value.param == "grammar"


def test_single_tokens() -> None:
    ids = {"<think>": PIECES.index(b"<|im_start|>")}
    compiled = compile_gbnf("root ::= <think> !<think> <[67]>", token_id=ids.get)
    vocab = toy_vocab()
    assert vocab.constraint(compiled.grammar(), [1, *tokens_of(b"xA")]).is_accepting
    with pytest.raises(BadRequestError):
        vocab.constraint(compiled.grammar(), [1, 1])


def test_long_recursion_to_the_right_stays_cheap() -> None:
    constraint = toy_vocab().constraint(compile_gbnf("root ::= w\nw ::= [a-z] w | [0-9]").grammar())
    for token in tokens_of(b"a" * 3000):
        constraint.accept(token)
    constraint.mask(np.zeros(len(PIECES), dtype=np.float32))
    assert constraint.allows(tokens_of(b"7")[0])
