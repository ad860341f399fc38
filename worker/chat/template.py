"""Turns messages into the prompt a model was trained on, with the Jinja chat template inside its GGUF.

The environment is Hugging Face's (`transformers.utils.chat_template_utils`): trim_blocks, lstrip_blocks, loop
controls, `raise_exception`, `strftime_now`, `tojson` without HTML escapes, `{% generation %}`. A template is somebody
else's program, so it runs in Jinja's immutable sandbox, and what it makes is bounded.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.errors import BadRequestError, WorkerError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For models whose file has no template."""

MAX_CHARS = 16 * 1024 * 1024
RESERVED = frozenset({"messages", "tools", "documents", "bos_token", "eos_token", "raise_exception", "strftime_now"})
"""Names a request may not give a template."""

_WORDS_SHORTEST = 8  # a shorter common beginning says nothing
_PROBE = "pendra probe"

Message = Mapping[str, Any]


class ChatTemplate:
    """One model's template, compiled once. `render` may be called from many threads at once.

    `source` None: ChatML. Raises WorkerError(`model_load_failed`) when the template is not valid Jinja.
    """

    def __init__(self, source: str | None, *, bos_text: str = "", eos_text: str = "") -> None:
        self.source = CHATML if source is None else source
        self._tokens = {"bos_token": bos_text, "eos_token": eos_text}
        environment = _Sandbox()
        try:
            self._template = environment.from_string(self.source)
            tree = environment.parse(self.source)
        except jinja2.TemplateSyntaxError as exc:
            why = f"its chat template is not valid Jinja: line {exc.lineno}: {exc.message}"
            raise WorkerError(f"the model cannot chat: {why}", code="model_load_failed") from None
        self._words = {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
        self.reads_tools = "tools" in meta.find_undeclared_variables(tree)
        """It shows the tools of a request. One that does not knows nothing of calls either."""
        self._wants_parts = not self._shows(_PROBE) and self._shows([{"type": "text", "text": _PROBE}])

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Message] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt, up to where the assistant's reply begins. `extra`: variables for the template.

        Raises BadRequestError when the template refuses the messages, in the template's own words.
        """
        told = [self._told(message) for message in messages]
        variables = {"add_generation_prompt": True, **(extra or {}), **self._tokens}
        try:
            return self._run(messages=told, tools=list(tools) if tools else None, documents=None, **variables)
        except BadRequestError:
            raise
        except _RefusedError as exc:
            raise _refused(self._own_words(exc.words)) from None
        except Exception as exc:  # noqa: BLE001  # a template can raise whatever Python can, quoting what it met
            why = f"it failed with {type(exc).__name__}{_line_of(exc)}"
            raise _refused(f"{why}; check the messages' roles and contents") from None

    def _run(self, **variables: Any) -> str:
        parts: list[str] = []
        size = 0
        for part in self._template.generate(**variables):
            size += len(part)
            if size > MAX_CHARS:
                raise BadRequestError(f"the chat template made a prompt of more than {MAX_CHARS} characters")
            parts.append(part)
        return "".join(parts)

    def _told(self, message: Message) -> Message:
        """A message in the form this template reads."""
        if message.get("role") == "developer" and "developer" not in self.source:
            message = {**message, "role": "system"}  # OpenAI's newer name for the same thing
        content = message.get("content")
        if self._wants_parts and isinstance(content, str):
            return {**message, "content": [{"type": "text", "text": content}]}
        return message

    def _shows(self, content: Any) -> bool:
        """Whether a user's message reaches the prompt when its content has this form."""
        message = {"role": "user", "content": content}
        try:
            return _PROBE in self._run(messages=[message], add_generation_prompt=True, tools=None, **self._tokens)
        except Exception:  # noqa: BLE001  # then this form is not the one
            return False

    def _own_words(self, said: str) -> str:
        """What a template said, as far as its author wrote it: the rest may be quoted from the messages."""
        if said in self._words:
            return said
        beginnings = [words for words in self._words if len(words) >= _WORDS_SHORTEST and said.startswith(words)]
        return max(beginnings, key=len).rstrip() + " …" if beginnings else "these messages are not allowed"


class _RefusedError(jinja2.TemplateError):
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
    raise _RefusedError(str(message))


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


def _refused(words: str) -> BadRequestError:
    return BadRequestError(f"the model's chat template refused the messages: {words}", param="messages")


def _line_of(exc: BaseException) -> str:
    """Where in the template; Jinja puts the template's own lines into the traceback."""
    lines = [line for frame, line in walk_tb(exc.__traceback__) if frame.f_code.co_filename == "<template>"]
    return f" at its line {lines[-1]}" if lines else ""
