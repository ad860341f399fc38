"""Replies that reason and call tools: what each family writes, in OpenAI's shapes, whole, streamed and resumed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tasks.contract import Job, Resume, Usage
from worker.chat.dialect import Dialect
from worker.chat.output import OutputParser
from worker.chat.reply import ChatReply
from worker.chat.toolcalls.forced import Tool
from worker.engine.api import FinishReason, StepOutput
from worker.generate.choice import Choice
from worker.generate.reply import Piece

USAGE = Usage(prompt_tokens=7, completion_tokens=3)
TOOLS = (Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}}), Tool("get_time", {}))
CALL = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
ROME = ("get_weather", {"city": "Rome"})

QWEN = Dialect.of("<think><tool_call>")
HARMONY = Dialect.of("", "gpt-oss")
FAMILIES: dict[str, tuple[Dialect, str, str, str | None, list[Any]]] = {
    "qwen": (
        QWEN,
        f"<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>",
        "Hm.",
        "I look.",
        [ROME, ROME],
    ),
    "llama3": (Dialect.of("<|python_tag|>"), CALL, "", None, [ROME]),
    "mistral": (Dialect.of("[THINK][TOOL_CALLS]"), f"[THINK]Hm.[/THINK][TOOL_CALLS][{CALL}]", "Hm.", None, [ROME]),
    "deepseek": (
        Dialect.of("<think><｜tool▁calls▁begin｜>```json"),
        (
            "<think>Hm.</think>Look:<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
            '```json\n{"city": "Rome"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        "Hm.",
        "Look:",
        [ROME],
    ),
    "harmony": (
        HARMONY,
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
            "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
            '{"city": "Rome"}'
        ),
        "Hm.",
        "I look.",
        [ROME],
    ),
    "generic": (Dialect.of(""), CALL, "", None, [ROME]),
    "no call": (QWEN, "<think>Hm.</think>I know <b>it</b>: {}", "Hm.", "I know <b>it</b>: {}", []),
}


def job(*, stream: bool = True, resume: Resume | None = None) -> Job:
    return Job(job_id="j1", model="m:1b", stream=stream, body={}, created=123, bridge_id="b", resume=resume)


def parser(dialect: Dialect, prompt: str = "") -> OutputParser:
    made = dialect.parser(prompt, TOOLS, "j1")
    assert made is not None
    return made


def parsed(of: Job, reader: OutputParser) -> ChatReply:
    return ChatReply(of, [Choice(parser=reader, resumed=of.resume is not None)])


def feed(reply: ChatReply, text: list[str], reason: FinishReason = FinishReason.STOP) -> list[Piece]:
    """One token a text, numbered from 0, then the end."""
    steps = [StepOutput("j1", piece, (number,)) for number, piece in enumerate(text)]
    end = StepOutput("j1", "", (len(text),), reason, USAGE)
    return [piece for step in [*steps, end] for piece in reply.pieces(step)]


def added(pieces: list[Piece]) -> tuple[str, str, list[dict[str, str]]]:
    """Reasoning, content and calls, put together as clients do."""
    reasoning, content = "", ""
    calls: list[dict[str, str]] = []
    for piece in pieces:
        for choice in ChatCompletionChunk.model_validate_json(piece.data).choices:
            delta = choice.delta
            assert getattr(delta, "reasoning", None) == getattr(delta, "reasoning_content", None)
            reasoning += getattr(delta, "reasoning", None) or ""
            content += delta.content or ""
            for call in delta.tool_calls or ():
                if call.id:
                    assert (call.index, call.type) == (len(calls), "function")
                    calls.append({"id": call.id, "name": call.function.name, "arguments": ""})
                calls[call.index]["arguments"] += call.function.arguments
    return reasoning, content, calls


def finish_of(pieces: list[Piece]) -> str:
    choices = [choice for piece in pieces for choice in json.loads(piece.data)["choices"]]
    (reason,) = (choice["finish_reason"] for choice in choices if choice["finish_reason"])
    return reason


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_streamed_letter_by_letter(name):
    dialect, text, reasoning, content, calls = FAMILIES[name]
    pieces = feed(parsed(job(), parser(dialect)), list(text))
    assert json.loads(pieces[0].data)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    thought, said, called = added(pieces)
    assert (thought, said) == (reasoning, content or "")
    assert [(call["name"], json.loads(call["arguments"])) for call in called] == calls
    assert finish_of(pieces) == ("tool_calls" if calls else "stop")
    assert [token for piece in pieces for token in piece.tokens] == list(range(len(text) + 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_whole(name):
    dialect, text, reasoning, content, calls = FAMILIES[name]
    reply = parsed(job(stream=False), parser(dialect))
    assert feed(reply, [text[:9], text[9:]]) == []
    body = json.loads(reply.whole(USAGE))
    choice = ChatCompletion.model_validate(body).choices[0]
    message = body["choices"][0]["message"]
    assert (message.get("reasoning", ""), message.get("reasoning_content", "")) == (reasoning, reasoning)
    assert (message["content"], "tool_calls" in message) == (content, bool(calls))
    made = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()]
    assert (made, choice.finish_reason) == (calls, "tool_calls" if calls else "stop")


@pytest.mark.parametrize("name", FAMILIES)
@given(data=st.data())
def test_a_reply_cut_after_any_chunk_goes_on_as_if_nothing_happened(name, data):
    """Whatever was delivered, its tokens' text fed to a new parser leads to exactly the rest."""
    dialect, text, *_ = FAMILIES[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    words = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    full = feed(parsed(job(), parser(dialect)), words)
    kept = data.draw(st.integers(1, len(full) - 2))
    tokens = [token for piece in full[:kept] for token in piece.tokens]
    again = parser(dialect)
    for token in tokens:
        again.feed(words[token] if token < len(words) else "")
    reply = parsed(job(resume=Resume(token_ids=tuple(tokens))), again)
    rest = [StepOutput("j1", word, (number,)) for number, word in enumerate(words)][len(tokens) :]
    end = StepOutput("j1", "", () if len(tokens) > len(words) else (len(words),), FinishReason.STOP, USAGE)
    pieces = [piece for step in [*rest, end] for piece in reply.pieces(step)]
    assert [piece.data for piece in pieces if '"usage"' not in piece.data] == [
        piece.data for piece in full[kept:] if '"usage"' not in piece.data
    ]


def test_one_output_is_one_delta():
    """Else a reply cut between two of them would lose or repeat one."""
    reply = parsed(job(), parser(QWEN))
    pieces = list(reply.pieces(StepOutput("j1", FAMILIES["qwen"][1], (1, 2, 3))))
    assert [piece.tokens for piece in pieces] == [(), (1, 2, 3)]
    assert set(json.loads(pieces[1].data)["choices"][0]["delta"]) == {
        "reasoning_content", "reasoning", "content", "tool_calls"
    }  # fmt: skip


def test_reasoning_is_counted_once_the_reply_is_in_it():
    reply = parsed(job(), parser(QWEN))
    pieces = feed(reply, ["<think>", "a", "b", "</think>", "c"])
    assert reply.usage(USAGE).reasoning_tokens == 3
    usage = json.loads(pieces[-1].data)["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 3}


def test_a_budget_that_ends_in_the_reasoning_is_told():
    reply = parsed(job(), parser(QWEN, "<|im_start|>assistant\n<think>\n"))
    assert finish_of(feed(reply, ["Hm", "…"], FinishReason.LENGTH)) == "length"
    notice = reply.notice()
    assert notice is not None
    assert notice.code == "truncated_during_reasoning"
    assert "max_tokens" in notice.message


def test_a_budget_that_ends_in_the_answer_or_a_call_is_only_a_length():
    reply = parsed(job(), parser(QWEN))
    pieces = feed(reply, ["<think>a</think>", '<tool_call>{"name": "get_time", "arguments": {'], FinishReason.LENGTH)
    assert finish_of(pieces) == "length"
    assert reply.notice() is None


def test_nothing_said_is_an_empty_content():
    reply = parsed(job(stream=False), parser(QWEN))
    feed(reply, ["<think>a</think>"])
    message = json.loads(reply.whole(USAGE))["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == ("", "a")
