"""How each model family writes tool calls: one reader a family. Pure.

Every reader passes everything on as content until its marker comes, and goes on after the calls. Sources: the chat
templates of the models named, and what vLLM's and llama.cpp's parsers accept of them.
"""

from __future__ import annotations

import re

from worker.chat.toolcalls.call_object import arguments, call_array, call_object
from worker.chat.toolcalls.reading import Reading
from worker.chat.toolcalls.text import Wait

_MOST_NAME = 256
_NAME = re.compile(r"[\w.:/-]*")
_HEADER_NAME = re.compile(r"[ ]to=(?:functions\.)?(?P<name>[\w.:/-]+)")
_BRACES = re.compile(r"[}\s]*")
_SEPARATORS = re.compile(r"[\s;]*")

TOOL_CALL, TOOL_CALL_END = "<tool_call>", "</tool_call>"
PYTHON_TAG = "<|python_tag|>"
TOOL_CALLS, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END, SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
START, CHANNEL, MESSAGE, CALL = "<|start|>assistant", "<|channel|>", "<|message|>", "<|call|>"


def hermes(reading: Reading) -> Wait[None]:
    """Hermes, Qwen 2.5 and 3, Granite 4: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number."""
    while (yield from reading.content_until([TOOL_CALL])):
        yield from reading.attempt(_hermes_call)


def _hermes_call(reading: Reading) -> Wait[bool]:
    yield from reading.text.literal(TOOL_CALL)
    yield from reading.text.blanks()
    if not (yield from call_object(reading)):
        return False
    yield from reading.text.run(_BRACES)  # one brace too many is a common slip
    yield from reading.text.literal(TOOL_CALL_END)
    return True


def llama3(reading: Reading) -> Wait[None]:
    """Llama 3.x: the whole reply is `{"name": …, "parameters": {…}}`, often after `<|python_tag|>`; several are
    separated by `;`."""
    more = yield from reading.again(_bare_call)
    while more:
        more = yield from reading.again(_next_call)
    while (yield from reading.content_until([PYTHON_TAG])):
        yield from reading.attempt(_tagged_calls)


def _bare_call(reading: Reading) -> Wait[bool]:
    yield from reading.text.blanks()
    return (yield from call_object(reading, offered_only=True))


def _next_call(reading: Reading) -> Wait[bool]:
    yield from reading.text.run(_SEPARATORS)
    yield from reading.text.literal(PYTHON_TAG)
    return (yield from call_object(reading, offered_only=True))


def _tagged_calls(reading: Reading) -> Wait[bool]:
    yield from reading.text.literal(PYTHON_TAG)
    yield from reading.text.blanks()
    complete = yield from call_object(reading)
    while complete and (yield from reading.again(_next_call)):
        pass
    return complete


def mistral(reading: Reading) -> Wait[None]:
    """Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}, "id": …}]`, and since Small 3.2 and Devstral
    `[TOOL_CALLS]name[ARGS]{…}`, with `[CALL_ID]id` between in some."""
    while (yield from reading.content_until([TOOL_CALLS])):
        yield from reading.attempt(_mistral_calls)


def _mistral_calls(reading: Reading) -> Wait[bool]:
    text = reading.text
    yield from text.literal(TOOL_CALLS)
    yield from text.blanks()
    if (yield from text.peek()) == "[":
        return (yield from call_array(reading))
    if (yield from text.peek()) == "{":
        return (yield from call_object(reading))
    name = yield from text.until([ARGS, CALL_ID, "{"], most=_MOST_NAME)
    if name is None or not _NAME.fullmatch(name.strip()) or not name.strip():
        return False
    call_id = None
    if (yield from text.literal(CALL_ID)):
        call_id = yield from text.until([ARGS, "{"], most=_MOST_NAME)
    yield from text.literal(ARGS)
    return (yield from arguments(reading, name.strip(), call_id))


def deepseek(reading: Reading) -> Wait[None]:
    """DeepSeek V3 and R1: `function<sep>name`, a line break and the arguments in a code fence; V3.1:
    `name<sep>{…}`. Each between `<｜tool▁call▁begin｜>` and its end, all in a `<｜tool▁calls▁begin｜>` block."""
    while (yield from reading.content_until([CALLS_BEGIN, CALL_BEGIN])):
        yield from reading.attempt(_deepseek_calls)


def _deepseek_calls(reading: Reading) -> Wait[bool]:
    text = reading.text
    yield from text.literal(CALLS_BEGIN)
    yield from text.blanks()
    while (yield from reading.again(_deepseek_call)):
        yield from text.blanks()
        yield from text.literal(CALL_END)
        yield from text.blanks()
    return (yield from text.literal(CALLS_END))


def _deepseek_call(reading: Reading) -> Wait[bool]:
    text = reading.text
    if not (yield from text.literal(CALL_BEGIN)):
        return False
    head = yield from text.until([SEP], most=_MOST_NAME)
    if head is None:
        return False
    yield from text.literal(SEP)
    yield from text.blanks()
    if (yield from text.peek()) == "{":
        return (yield from arguments(reading, head.strip()))
    name = yield from text.until(["\n", "```", "{"], most=_MOST_NAME)
    if name is None or not name.strip():
        return False
    yield from text.blanks()
    fenced = yield from text.literal("```")
    yield from text.literal("json")
    complete = yield from arguments(reading, name.strip())
    yield from text.blanks()
    if fenced:
        yield from text.literal("```")
    return complete


def harmony(reading: Reading) -> Wait[None]:
    """gpt-oss: `<|channel|>commentary to=functions.name <|constrain|>json<|message|>{…}`, the recipient before the
    channel in some; as `worker.chat.reasoning` hands it on."""
    while (yield from reading.content_until([START, CHANNEL, " to="])):
        yield from reading.attempt(_harmony_call)


def _harmony_call(reading: Reading) -> Wait[bool]:
    text = reading.text
    text.back()  # the blank before `to=` is part of the header
    text.mark()
    header = yield from text.until([MESSAGE], most=_MOST_NAME)
    recipient = _HEADER_NAME.search(header or "")
    if recipient is None:
        return False
    yield from text.literal(MESSAGE)
    complete = yield from arguments(reading, recipient["name"])
    yield from text.blanks()
    yield from text.literal(CALL)
    return complete


def generic(reading: Reading) -> Wait[None]:
    """Any other model: the whole reply is a call object of an offered tool or a list of them, or such under
    `tool_calls` or `tool_call`, perhaps in a code fence."""
    yield from reading.again(_generic_calls)
    yield from reading.content_until()


def _generic_calls(reading: Reading) -> Wait[bool]:
    text = reading.text
    yield from text.blanks()
    fenced = yield from text.literal("```")
    if fenced:
        yield from text.run(_NAME)
        yield from text.blanks()
    complete = yield from _calls(reading)
    yield from text.run(_BRACES)
    if fenced:
        yield from text.literal("```")
    return complete


def _calls(reading: Reading) -> Wait[bool]:
    text = reading.text
    if (yield from text.peek()) == "[":
        return (yield from call_array(reading, offered_only=True))
    for wrapper in ('"tool_calls"', '"tool_call"'):
        if (yield from _wrapped(reading, wrapper)):
            if (yield from text.peek()) == "[":
                return (yield from call_array(reading, offered_only=True))
            break
    return (yield from call_object(reading, offered_only=True))


def _wrapped(reading: Reading, key: str) -> Wait[bool]:
    """Read `{"key":`, or nothing."""
    pattern = re.compile(r"\{\s*" + re.escape(key) + r"\s*:\s*(?=\S)")
    text = reading.text
    while True:
        match = pattern.match(text.rest)
        if match:
            text.skip(match.end())
            return True
        if text.over or not _begins(text.rest, key):
            return False
        yield


def _begins(rest: str, key: str) -> bool:
    """Whether more text could make `{"key":` of this."""
    packed = "".join(rest.split())
    return f"{{{key}:".startswith(packed)
