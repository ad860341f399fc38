"""Deltas have OpenAI's form, come as early as they can, and ids repeat in another attempt."""

from __future__ import annotations

from tests.worker.chat.toolcalls.reading import TOOLS, deltas_of
from worker.chat.toolcalls import family as f
from worker.chat.toolcalls.deltas import CallArguments, CallStart, Content, assembled, call_ids
from worker.chat.toolcalls.parser import ToolCallParser


def test_a_call_streams_while_it_is_written() -> None:
    parser = ToolCallParser(f.HERMES, TOOLS, call_ids("job"))
    assert parser.feed("Ok. <tool") == [Content("Ok.")]
    assert parser.feed('_call>\n{"name": "get_weather", "arguments": {') == []
    start, arguments = parser.feed('"city": "Pa')
    assert isinstance(start, CallStart)
    assert (start.index, start.name) == (0, "get_weather")
    assert arguments == CallArguments(0, '{"city": "Pa')
    assert parser.feed("ris\\u00") == [CallArguments(0, "ris")]
    assert parser.feed('e9"}') == [CallArguments(0, '\\u00e9"}')]
    assert parser.feed("}\n</tool_call>\n") == []
    assert parser.finish() == []
    assert parser.calls == 1


def test_text_parameters_stream_too() -> None:
    parser = ToolCallParser(f.QWEN_XML, TOOLS, call_ids("job"))
    parser.feed("<tool_call>\n<function=get_weather>\n<parameter=city>\n")
    assert parser.feed('Pa"r') == [CallArguments(0, 'Pa\\"r')]
    assert parser.feed("is\n</par") == [CallArguments(0, "is")]
    assert parser.feed("ameter>\n</function>\n</tool_call>") == [CallArguments(0, '"}')]


def test_openai_deltas() -> None:
    assert CallStart(1, "call_x", "f").openai() == {
        "index": 1,
        "id": "call_x",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    assert CallArguments(1, '{"a"').openai() == {"index": 1, "function": {"arguments": '{"a"'}}


def test_a_whole_reply_is_assembled() -> None:
    deltas = deltas_of(f.HERMES, ['Ok.<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'])
    content, calls = assembled(deltas)
    assert content == "Ok."
    assert calls == [
        {"id": call_ids("job")(0), "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    ]


def test_ids_are_the_same_in_another_attempt() -> None:
    assert call_ids("job")(0) == call_ids("job")(0)
    assert len({call_ids(seed)(index) for seed in "ab" for index in range(3)}) == 6
    assert call_ids("job")(0).startswith("call_")


def test_mistral_ids_have_nine_letters_and_digits() -> None:
    made = call_ids("job", short=True)(0)
    assert len(made) == 9
    assert made.isalnum()


def test_a_call_keeps_the_id_the_model_gave_it() -> None:
    start = deltas_of(f.MISTRAL_ARGS, ["[TOOL_CALLS]get_time[CALL_ID]abc123def[ARGS]{}"])[0]
    assert isinstance(start, CallStart)
    assert start.id == "abc123def"
