"""OpenAI's messages as Ollama's."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import BadRequestError
from worker.backends.external.ollama.messages import chat_messages, tools_of

PNG = "iVBORw0KGgo="


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_texts_and_roles():
    messages = [
        {"role": "developer", "content": "be brief"},
        user({"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}),
    ]
    assert chat_messages(messages) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one\ntwo"},
    ]


@pytest.mark.parametrize(
    "part",
    [
        image(f"data:image/png;base64,{PNG}"),
        image(f"data:;base64,{PNG}"),
        {"type": "image_url", "image_url": f"data:image/jpeg;base64,{PNG}"},
        {"type": "input_image", "image_url": f"DATA:image/webp;base64,{PNG}"},
        {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
    ],
)
def test_pictures_and_recordings_go_as_plain_base64(part: dict[str, Any]):
    assert chat_messages([user({"type": "text", "text": "what?"}, part)]) == [
        {"role": "user", "content": "what?", "images": [PNG]}
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (image("http://169.254.169.254/latest"), "none is fetched"),
        (image("HTTPS://example.org/x.png"), "none is fetched"),
        (image("file:///etc/passwd"), "data URL"),
        (image("data:image/png;base64,not base64!"), "base64"),
        (image("data:image/png;base64,"), "base64"),
        (image("data:text/html;base64,PGI+"), "data URL"),
        ({"type": "image_url"}, "data URL"),
        ({"type": "video_url", "video_url": {"url": "x"}}, "video"),
        ({"type": "file", "file": {}}, "file"),
    ],
)
def test_what_is_no_picture_is_refused_and_nothing_is_fetched(part: dict[str, Any], words: str):
    with pytest.raises(BadRequestError, match=words) as caught:
        chat_messages([{"role": "user", "content": "hi"}, user(part)])
    assert caught.value.code == "unsupported_content"
    assert caught.value.param == "messages[1].content[0]"
    assert "169.254" not in caught.value.message


def test_a_conversation_with_tools():
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "reasoning_content": "look it up", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    assert chat_messages(messages)[1:] == [
        {
            "role": "assistant",
            "content": "",
            "thinking": "look it up",
            "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize(
    ("messages", "where"),
    [
        (None, "messages"),
        ([], "messages"),
        (["hi"], "messages[0].role"),
        ([{"role": "robot", "content": "hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0]"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": "x"}]}], "messages[0].tool_calls[0]"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_bad_messages_are_named(messages: Any, where: str):
    with pytest.raises(BadRequestError) as caught:
        chat_messages(messages)
    assert caught.value.param == where


@pytest.mark.parametrize("tools", ["x", ["x"], [{"type": "function"}], [{"function": {"name": 1}}]])
def test_bad_tools(tools: Any):
    with pytest.raises(BadRequestError, match="tools"):
        tools_of(tools)
