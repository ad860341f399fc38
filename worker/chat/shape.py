"""Which grammar a reply has to follow: a schema's, a GBNF text's, or that of tool calls. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.chat.dialect import Dialect
from worker.chat.notices import Promise
from worker.chat.request import ChatRequest
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.gbnf import TokenId
from worker.chat.structured.request import structured_output
from worker.chat.toolcalls.forced import Tool, forced_calls, possible_calls


@dataclass(frozen=True, slots=True)
class Shape:
    """`grammar`: text for `worker.engine.grammar.GrammarVocab.constraint`, reasoning before it allowed."""

    grammar: str = field(repr=False)
    promise: Promise


def shape_of(
    body: JsonObject, chat: ChatRequest, dialect: Dialect, prompt: str, *, token_id: TokenId | None = None
) -> Shape | None:
    """What `body`, already read as `chat`, asks of the reply to the rendered `prompt`; None = free text.

    Raises BadRequestError `bad_request`, `bad_schema`, `bad_grammar` or `unsupported_parameter`.
    """
    asked = structured_output(body, token_id=token_id)
    if asked is None:
        return _calls(chat, dialect, prompt)
    compiled, strict = asked
    if not chat.offered:
        return _shape(compiled, dialect, prompt, strict=strict)
    if chat.forced is not None or not compiled.json:
        raise BadRequestError(
            f"{_shaping(body)} cannot be combined with tools that the reply may or must call; "
            "leave one out, or send tool_choice none",
            code="unsupported_parameter",
            param=_shaping(body),
        )
    return _shape(
        _either(compiled, chat, dialect), dialect, prompt, strict=strict or _strict(chat.offered), call=True
    )


def _shaping(body: JsonObject) -> str:
    return next(name for name in ("response_format", "json_schema", "grammar") if body.get(name))


def _either(asked: Compiled, chat: ChatRequest, dialect: Dialect) -> Compiled:
    """The reply has the shape, or it is calls: an agent's last turn and the turns before it."""
    calls = forced_calls(dialect.family, chat.offered, parallel=chat.parallel_calls)
    header = dialect.reasoning.answer_header if dialect.reasoning else ""
    rules = [f"body: {header} shaped | called", _renamed(asked.rules, "shaped"), _renamed(calls.rules, "called")]
    return Compiled("\n".join(rules), (*asked.not_enforced, *calls.not_enforced))


def _renamed(rules: str, name: str) -> str:
    """Rules whose rule `body`, the first, has another name."""
    return f"{name}:{rules.removeprefix('body:')}"


def _calls(chat: ChatRequest, dialect: Dialect, prompt: str) -> Shape | None:
    """Calls that are forced follow a grammar; free ones do where the request insists on something about them."""
    if chat.forced is not None:
        compiled = forced_calls(dialect.family, chat.forced, parallel=chat.parallel_calls)
        return _shape(compiled, dialect, prompt, strict=_strict(chat.forced), call=True)
    if chat.parallel_calls and not chat.restricted and not _strict(chat.offered):
        return None
    possible = possible_calls(dialect.family, chat.offered, parallel=chat.parallel_calls)
    return None if possible is None else _shape(possible, dialect, prompt, strict=_strict(chat.offered))


def _shape(compiled: Compiled, dialect: Dialect, prompt: str, *, strict: bool, call: bool = False) -> Shape:
    prelude = dialect.reasoning.prelude(prompt, call=call) if dialect.reasoning else ""
    return Shape(compiled.grammar(prelude), Promise(compiled.json, compiled.not_enforced if strict else ()))


def _strict(tools: tuple[Tool, ...]) -> bool:
    return any(tool.strict for tool in tools)
