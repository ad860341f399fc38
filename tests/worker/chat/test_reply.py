"""The shape of replies, checked with OpenAI's own models."""

from __future__ import annotations

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tasks.contract import Job, Resume, Usage
from worker.chat.reply import ChatReply
from worker.engine.api import FinishReason, StepOutput
from worker.generate.reply import Piece

USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)


def job(*, stream: bool = True, resume: Resume | None = None) -> Job:
    return Job(job_id="j1", model="m:1b", stream=stream, body={}, created=123, bridge_id="b", resume=resume)


def out(text: str = "", *tokens: int, reason: FinishReason | None = None) -> StepOutput:
    usage = USAGE if reason else None
    return StepOutput("j1", text=text, tokens=tokens, finish_reason=reason, usage=usage)


def feed(reply: ChatReply, *outputs: StepOutput) -> list[Piece]:
    return [piece for output in outputs for piece in reply.pieces(output)]


def test_a_stream_from_role_to_usage():
    pieces = feed(ChatReply(job()), out("He", 1), out("llo", 2), out("!", 3, reason=FinishReason.STOP))
    chunks = [ChatCompletionChunk.model_validate_json(piece.data) for piece in pieces]
    assert {(c.id, c.object, c.created, c.model) for c in chunks} == {
        ("chatcmpl-j1", "chat.completion.chunk", 123, "m:1b")
    }
    first, *texts, last, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.content for chunk in texts] == ["He", "llo", "!"]
    assert (last.choices[0].delta.content, last.choices[0].finish_reason) == (None, "stop")
    assert json.loads(pieces[-2].data)["choices"][0]["delta"] == {}
    assert usage.choices == []
    assert usage.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * 5


def test_tokens_travel_with_the_text_that_they_finish():
    """Half a character holds its token back until the text comes; the ids then belong to that chunk."""
    pieces = feed(ChatReply(job()), out("a", 1), out("", 2), out("ü", 3), out("", 4, reason=FinishReason.LENGTH))
    assert [piece.tokens for piece in pieces] == [(), (1,), (2, 3), (4,), ()]


def test_a_resumed_stream_does_not_begin_again():
    pieces = feed(ChatReply(job(resume=Resume(token_ids=(1,)))), out("b", 2))
    assert [json.loads(piece.data)["choices"][0]["delta"] for piece in pieces] == [{"content": "b"}]


def test_an_empty_reply_still_begins_and_ends():
    pieces = feed(ChatReply(job()), out(reason=FinishReason.STOP))
    assert len(pieces) == 3


@pytest.mark.parametrize("text", ['"\\', "\n\r\t\x00", "ü😀", "\u2028\u2029\x85"])
def test_any_text_is_one_line_of_plain_json(text):
    *_, piece = feed(ChatReply(job()), out(text, 1))
    assert json.loads(piece.data)["choices"][0]["delta"]["content"] == text
    assert piece.data.isascii()
    assert piece.data.splitlines() == [piece.data]


def test_a_whole_reply():
    reply = ChatReply(job(stream=False))
    assert feed(reply, out("He", 1), out("llo", 2), out("", 3, reason=FinishReason.LENGTH)) == []
    whole = ChatCompletion.model_validate_json(reply.whole(USAGE))
    assert (whole.id, whole.object, whole.created, whole.model) == ("chatcmpl-j1", "chat.completion", 123, "m:1b")
    assert (whole.choices[0].message.role, whole.choices[0].message.content) == ("assistant", "Hello")
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.total_tokens == 10


def test_a_piece_shows_no_content():
    assert "secret" not in repr(Piece("secret", (1,)))
