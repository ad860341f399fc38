"""One chat template, compiled and rendered in Jinja's immutable sandbox. Runs in `worker.chat.render_child` only.

The environment is Hugging Face's (`transformers.utils.chat_template_utils`): trim_blocks, lstrip_blocks, loop
controls, `raise_exception`, `strftime_now`, `tojson` without HTML escapes, `{% generation %}`. Nothing that a
template says is passed on as it is: it may quote what it was given.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from traceback import walk_tb
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARS = 16 * 1024 * 1024
_WORDS_SHORTEST = 8  # a shorter common beginning says nothing


class RefusedError(Exception):
    """The template refuses what it was given; the text is its author's."""


class FailedError(Exception):
    """It broke; the text is the kind of error and the line."""


class TooLongError(Exception):
    """It made more than it may."""


class InvalidError(Exception):
    """It is no Jinja; the text says where."""


class Program:
    """Raises InvalidError."""

    def __init__(self, source: str) -> None:
        environment = _Sandbox()
        try:
            self._template = environment.from_string(source)
            tree = environment.parse(source)
        except jinja2.TemplateSyntaxError as exc:
            raise InvalidError(f"line {exc.lineno}: {exc.message}") from None
        except Exception as exc:  # noqa: BLE001  # too deep, too large
            raise InvalidError(type(exc).__name__) from None
        self._words = {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
        self.reads_tools = "tools" in meta.find_undeclared_variables(tree)

    def render(self, variables: Mapping[str, Any], max_chars: int) -> str:
        """Raises RefusedError, FailedError, TooLongError."""
        try:
            return self._run(variables, max_chars)
        except TooLongError:
            raise
        except _RaisedError as exc:
            raise RefusedError(self._own_words(exc.words)) from None
        except Exception as exc:  # noqa: BLE001  # a template can raise whatever Python can, quoting what it met
            raise FailedError(f"{type(exc).__name__}{_line_of(exc)}") from None

    def _run(self, variables: Mapping[str, Any], max_chars: int) -> str:
        parts: list[str] = []
        size = 0
        for part in self._template.generate(**variables):
            size += len(part)
            if size > max_chars:
                raise TooLongError
            parts.append(part)
        return "".join(parts)

    def _own_words(self, said: str) -> str:
        """What a template said, as far as its author wrote it: the rest may be quoted from the messages."""
        if said in self._words:
            return said
        beginnings = [words for words in self._words if len(words) >= _WORDS_SHORTEST and said.startswith(words)]
        return max(beginnings, key=len).rstrip() + " …" if beginnings else "these messages are not allowed"


class _RaisedError(jinja2.TemplateError):
    """The template called `raise_exception`."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks assistant text for training; here it is just its body."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses to build huge values in one operation."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = _strftime_now

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or _product_size(left, right) > MAX_CHARS:
            raise jinja2.exceptions.SecurityError(f"the operation {operator} is too large")
        return super().call_binop(context, operator, left, right)


def _product_size(left: Any, right: Any) -> int:
    """How long the product of a text or list and a number would be; 0 for numbers."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(count, int) and isinstance(sequence, (str, bytes, list, tuple)):
            return len(sequence) * max(0, count)
    return 0


def _raise(message: object) -> NoReturn:
    raise _RaisedError(str(message))


def _strftime_now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  # what templates call
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _line_of(exc: BaseException) -> str:
    """Where in the template; Jinja puts the template's own lines into the traceback."""
    lines = [line for frame, line in walk_tb(exc.__traceback__) if frame.f_code.co_filename == "<template>"]
    return f" at its line {lines[-1]}" if lines else ""
