"""The families of tool call syntax, and which one a model speaks. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.chat.toolcalls import families as f
from worker.chat.toolcalls.qwen_xml import qwen_xml
from worker.chat.toolcalls.reading import Reading
from worker.chat.toolcalls.text import Wait


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """A call as a grammar writes it: `opening`, then calls with `between` them, then `closing`.

    A call is `before` name `middle` arguments `after`. `several`: whether more than one call fits into a reply.
    """

    before: str
    middle: str
    after: str = ""
    opening: str = ""
    between: str = ""
    closing: str = ""
    several: bool = True


@dataclass(frozen=True, slots=True)
class ToolFamily:
    """One way of writing calls.

    `markers`: control tokens that must reach the parser as text. `trigger`: what begins a call in the middle of
    other text; "" = a call is the whole reply. `short_ids`: see `deltas.call_ids`.
    """

    name: str
    read: Callable[[Reading], Wait[None]]
    syntax: CallSyntax
    markers: tuple[str, ...] = ()
    trigger: str = ""
    short_ids: bool = False


_JSON = '{"name": "'
_ARGUMENTS = '", "arguments": '

HERMES = ToolFamily(
    "hermes",
    f.hermes,
    CallSyntax(f"{f.TOOL_CALL}\n{_JSON}", _ARGUMENTS, f"}}\n{f.TOOL_CALL_END}", between="\n"),
    markers=(f.TOOL_CALL, f.TOOL_CALL_END),
    trigger=f.TOOL_CALL,
)
QWEN_XML = ToolFamily("qwen_xml", qwen_xml, HERMES.syntax, markers=HERMES.markers, trigger=f.TOOL_CALL)
"""Forced calls are written in the JSON form, whose arguments a grammar can hold to any schema."""
LLAMA3 = ToolFamily(
    "llama3",
    f.llama3,
    CallSyntax(_JSON, '", "parameters": ', "}", between="; "),
    markers=(f.PYTHON_TAG,),
)
MISTRAL = ToolFamily(
    "mistral",
    f.mistral,
    CallSyntax(_JSON, _ARGUMENTS, "}", opening=f"{f.TOOL_CALLS}[", between=", ", closing="]"),
    markers=(f.TOOL_CALLS,),
    trigger=f.TOOL_CALLS,
    short_ids=True,
)
MISTRAL_ARGS = ToolFamily(
    "mistral_args",
    f.mistral,
    CallSyntax(f.TOOL_CALLS, f.ARGS),
    markers=(f.TOOL_CALLS, f.CALL_ID, f.ARGS),
    trigger=f.TOOL_CALLS,
    short_ids=True,
)
_DEEPSEEK_MARKERS = (f.CALLS_BEGIN, f.CALLS_END, f.CALL_BEGIN, f.CALL_END, f.SEP)
DEEPSEEK = ToolFamily(
    "deepseek",
    f.deepseek,
    CallSyntax(
        f"{f.CALL_BEGIN}function{f.SEP}",
        "\n```json\n",
        f"\n```{f.CALL_END}",
        opening=f.CALLS_BEGIN,
        between="\n",
        closing=f.CALLS_END,
    ),
    markers=_DEEPSEEK_MARKERS,
    trigger=f.CALLS_BEGIN,
)
DEEPSEEK_V31 = ToolFamily(
    "deepseek_v31",
    f.deepseek,
    CallSyntax(f.CALL_BEGIN, f.SEP, f.CALL_END, opening=f.CALLS_BEGIN, closing=f.CALLS_END),
    markers=_DEEPSEEK_MARKERS,
    trigger=f.CALLS_BEGIN,
)
HARMONY = ToolFamily(
    "harmony",
    f.harmony,
    CallSyntax(f"{f.CHANNEL}commentary to=functions.", f" <|constrain|>json{f.MESSAGE}", several=False),
    markers=("<|start|>", "<|end|>", f.CHANNEL, f.MESSAGE, "<|constrain|>", f.CALL),
)
GENERIC = ToolFamily("generic", f.generic, CallSyntax(_JSON, _ARGUMENTS, "}", several=False))

FAMILIES = (HERMES, QWEN_XML, LLAMA3, MISTRAL, MISTRAL_ARGS, DEEPSEEK, DEEPSEEK_V31, HARMONY, GENERIC)


def detect_family(template: str, architecture: str = "") -> ToolFamily:
    """The family a chat template speaks, told by the markers it writes; GENERIC when it has none we know."""
    if (f.CHANNEL in template and f.MESSAGE in template) or architecture == "gpt-oss":
        return HARMONY
    if f.CALLS_BEGIN in template or f.CALL_BEGIN in template:
        return DEEPSEEK if "```json" in template else DEEPSEEK_V31
    if f.TOOL_CALLS in template:
        return MISTRAL_ARGS if f.ARGS in template else MISTRAL
    if "<function=" in template and "<parameter=" in template:
        return QWEN_XML
    if f.TOOL_CALL in template and "<arg_key>" not in template:
        return HERMES
    if f.PYTHON_TAG in template or ("ipython" in template and '"parameters": ' in template):
        return LLAMA3
    return GENERIC
