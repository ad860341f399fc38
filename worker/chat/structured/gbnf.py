"""GBNF, llama.cpp's grammar notation, into Lark rules for llguidance. Pure.

Character by character, so that it means what GBNF means: llguidance's own converter joins characters into greedy
lexemes, after which `root ::= [a-z]+ "end"` can never finish.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from llguidance import LLMatcher

from tasks.errors import BadRequestError
from worker.chat.structured.compiled import Compiled, problem_of

TokenId = Callable[[str], int | None]
"""The id of the token with exactly this text, None when there is none."""

_MAX_CHARS = 256 * 1024
_MAX_DEPTH = 100
_MAX_REPEAT = 2000
"""llama.cpp's limit, too."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_REPEAT = re.compile(r"\{[ \t]*(\d*)[ \t]*(,?)[ \t]*(\d*)[ \t]*\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^"}
_HEX = {"x": 2, "u": 4, "U": 8}


def compile_gbnf(text: str, *, token_id: TokenId | None = None, param: str = "grammar") -> Compiled:
    """The grammar whose start is the rule `root`.

    `token_id` resolves `<token>` names. Raises BadRequestError `bad_grammar` with the line and what is wrong there.
    """
    if len(text) > _MAX_CHARS:
        raise _bad(f"it has {len(text)} characters, more than the {_MAX_CHARS} allowed", param)
    reader = _Reader(text, token_id, param)
    compiled = Compiled(reader.lark(), json=False)
    problem = problem_of(LLMatcher.grammar_from_lark(compiled.grammar()))
    if problem is not None:
        raise _bad(problem, param)
    return compiled


@dataclass(slots=True)
class _Rule:
    """`options`: its alternatives in Lark. `again`: those that end with the rule itself, without that end."""

    options: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def lark(self) -> str:
        """`a ::= x a | y` is written `x* y`: nested to the right, llguidance's work grows with the square."""
        rest = " | ".join(option or '""' for option in self.options) or '""'
        if not self.again:
            return rest
        return f"({' | '.join(self.again)})* ({rest})"


class _Reader:
    def __init__(self, text: str, token_id: TokenId | None, param: str) -> None:
        self._text = text
        self._pos = 0
        self._depth = 0
        self._token_id = token_id
        self._param = param
        self._names: dict[str, str] = {}
        self._used: dict[str, int] = {}
        self._rules: dict[str, _Rule] = {}
        self._groups: list[str] = []
        self._chars: dict[str, str] = {}

    def lark(self) -> str:
        self._skip(_BLANK_LINES)
        while self._pos < len(self._text):
            self._read_rule()
            self._skip(_BLANK_LINES)
        for name, position in self._used.items():
            if name not in self._rules:
                raise self._error(f"the rule {name!r} is used but not defined", position)
        if "root" not in self._rules:
            raise _bad("there is no rule named root", self._param)
        rules = [f"{self._names[name]}: {rule.lark()}" for name, rule in self._rules.items()]
        chars = [f"{name}: {regex}" for regex, name in self._chars.items()]
        return "\n".join([f"body: {self._names['root']}", *rules, *self._groups, *chars, ""])

    def _read_rule(self) -> None:
        name = self._name()
        self._skip(_BLANK)
        if not self._take("::="):
            raise self._error("expected ::=")
        self._rules[name] = rule = _Rule()
        me = self._rule(name)
        for items in self._alternatives(_BLANK_LINES, _BLANK):
            if len(items) > 1 and items[-1] == me and me not in items[:-1]:
                rule.again.append(" ".join(items[:-1]))
            else:
                rule.options.append(" ".join(items))
        if not rule.options:  # it never ends; nothing to rewrite
            rule.options, rule.again = [f"{option} {me}" for option in rule.again], []
        if self._pos < len(self._text) and self._text[self._pos] not in "\r\n":
            raise self._error("expected the end of the rule")

    def _alternatives(self, after_bar: re.Pattern[str], between: re.Pattern[str]) -> list[list[str]]:
        self._skip(after_bar)
        found = [self._sequence(between)]
        while self._take("|"):
            self._skip(_BLANK_LINES)
            found.append(self._sequence(between))
        return found

    def _sequence(self, between: re.Pattern[str]) -> list[str]:
        items: list[str] = []
        while (item := self._item()) is not None:
            self._skip(between)
            while repeat := self._repeat():
                item = f"({item}){repeat}" if item[-1] in "*+?}" else f"{item}{repeat}"
                self._skip(between)
            items.append(item)
        return items

    def _item(self) -> str | None:
        char = self._text[self._pos : self._pos + 1]
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == ".":
            self._pos += 1
            return self._char("/(?s:.)/")
        if char in {"<", "!"} and char:
            return self._token()
        if char == "(":
            return self._group()
        if _NAME.match(char):
            start = self._pos
            name = self._name()
            self._used.setdefault(name, start)
            return self._rule(name)
        return None

    def _group(self) -> str:
        start = self._pos
        self._pos += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} brackets inside each other", start)
        options = self._alternatives(_BLANK_LINES, _BLANK_LINES)
        if not self._take(")"):
            raise self._error("this ( is not closed", start)
        self._depth -= 1
        name = f"g{len(self._groups)}"  # a rule of its own: llguidance does not read deep brackets
        self._groups.append(f"{name}: " + " | ".join(" ".join(items) or '""' for items in options))
        return name

    def _literal(self) -> str:
        start = self._pos
        self._pos += 1
        items: list[str] = []
        while not self._take('"'):
            if self._pos >= len(self._text):
                raise self._error("this string is not closed", start)
            items.append(self._char(f"/{_regex_char(self._one())}/"))
        return f"({' '.join(items)})" if items else '""'

    def _class(self) -> str:
        start = self._pos
        self._pos += 1
        negated = self._take("^")
        ranges: list[str] = []
        while not self._take("]"):
            if self._pos >= len(self._text):
                raise self._error("this [ is not closed", start)
            ranges.append(self._range())
        if not ranges:
            if not negated:
                raise self._error("an empty [] matches nothing", start)
            return self._char("/(?s:.)/")
        return self._char(f"/[{'^' * negated}{''.join(ranges)}]/")

    def _range(self) -> str:
        start = self._pos
        low = self._one()
        if self._text[self._pos : self._pos + 1] != "-" or self._text[self._pos + 1 : self._pos + 2] == "]":
            return _regex_char(low)
        self._pos += 1
        high = self._one()
        if high < low:
            raise self._error("this range goes backwards", start)
        return f"{_regex_char(low)}-{_regex_char(high)}"

    def _one(self) -> str:
        """One character of a string or class, escapes resolved."""
        start = self._pos
        char = self._text[start : start + 1]
        self._pos += 1
        if char != "\\":
            if not char:
                raise self._error("the grammar ends too early")
            return char
        kind = self._text[self._pos : self._pos + 1]
        self._pos += 1
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        digits = self._text[self._pos : self._pos + _HEX.get(kind, 0)]
        if kind not in _HEX or len(digits) != _HEX[kind] or not re.fullmatch("[0-9A-Fa-f]+", digits):
            raise self._error("unknown escape", start)
        self._pos += len(digits)
        code = int(digits, 16)
        if code > sys.maxunicode or "\ud800" <= chr(code) <= "\udfff":
            raise self._error("this is not a Unicode character", start)
        return chr(code)

    def _repeat(self) -> str:
        for sign in "*+?":
            if self._take(sign):
                return sign
        match = _REPEAT.match(self._text, self._pos)
        if match is None:
            return ""
        low, comma, high = match.groups()
        if (not low and not (comma and high)) or max(int(low or 0), int(high or 0)) > _MAX_REPEAT:
            raise self._error(f"repetitions are written {{m}}, {{m,}} or {{m,n}}, up to {_MAX_REPEAT}")
        if high and int(high) < int(low or 0):
            raise self._error("these repetitions end before they begin")
        self._pos = match.end()
        return f"{{{low or 0}{comma}{high}}}"

    def _token(self) -> str:
        start = self._pos
        negated = self._take("!")
        end = self._text.find(">", self._pos)
        if self._text[self._pos : self._pos + 1] != "<" or end < 0:
            raise self._error("expected <token> or <[id]>")
        name = self._text[self._pos : end + 1]
        self._pos = end + 1
        number = re.fullmatch(r"<\[(\d+)\]>", name)
        token = int(number[1]) if number else self._token_id(name) if self._token_id else None
        if token is None:
            raise self._error("the model has no token of this name", start)
        return f"<[{'^' * negated}{token}]>"

    def _name(self) -> str:
        match = _NAME.match(self._text, self._pos)
        if match is None:
            raise self._error("expected the name of a rule")
        self._pos = match.end()
        return match.group()

    def _rule(self, name: str) -> str:
        return self._names.setdefault(name, f"r{len(self._names)}")

    def _char(self, regex: str) -> str:
        return self._chars.setdefault(regex, f"C{len(self._chars)}")

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._pos)
        self._pos = match.end() if match else self._pos

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._pos)
        self._pos += len(text) * found
        return found

    def _error(self, what: str, position: int | None = None) -> BadRequestError:
        line = self._text.count("\n", 0, self._pos if position is None else position) + 1
        return _bad(f"line {line}: {what}", self._param)


def _regex_char(char: str) -> str:
    return f"\\x{{{ord(char):X}}}"


def _bad(what: str, param: str) -> BadRequestError:
    return BadRequestError(f"the grammar cannot be used, {what}", code="bad_grammar", param=param)
