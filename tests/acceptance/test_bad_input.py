"""Bad input gets a clear error with a stable code, through the whole stack, and loses nothing."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from tests.acceptance.stack import MODEL, Stack, eventually, leaving

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def code_of(reply: httpx.Response) -> tuple[int, str]:
    body = reply.json()
    assert body["detail"]
    assert body["error"]["message"]
    assert reply.headers["x-pendra-error-code"] == body["code"]
    return reply.status_code, body["code"]


def test_wrong_key(stack: Stack) -> None:
    for headers in ({}, {"Authorization": "Bearer pdr_sk_wrong"}, {"x-api-key": "nonsense"}):
        reply = httpx.post(stack.url + CHAT, json={"model": MODEL, "messages": HELLO}, headers=headers)
        assert code_of(reply) == (401, "unauthorized")


def test_unknown_model_names_it(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        openai_client.chat.completions.create(model="no-such-model", messages=HELLO)


def test_context_overflow_names_both_numbers(api: httpx.Client) -> None:
    words = "word " * 12_000
    reply = api.post(CHAT, json={"model": MODEL, "messages": [{"role": "user", "content": words}]})
    assert code_of(reply) == (400, "context_length_exceeded")
    numbers = [int(part) for part in reply.json()["detail"].replace(",", "").split() if part.isdigit()]
    assert any(n > 12_000 for n in numbers)
    assert any(n <= 8192 for n in numbers)


@pytest.mark.parametrize("stream", [False, True])
def test_worker_errors_keep_their_http_status_on_streams(api: httpx.Client, *, stream: bool) -> None:
    body = {"model": MODEL, "messages": HELLO, "temperature": "hot", "stream": stream}
    reply = api.post(CHAT, json=body)
    assert code_of(reply) == (400, "bad_request")
    assert "temperature" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("messages", "named"),
    [([], "messages"), ([{"role": "user"}], "messages"), ("hi", "messages"), ([{"content": "x"}], "role")],
)
def test_bad_messages_are_named(api: httpx.Client, messages: object, named: str) -> None:
    reply = api.post(CHAT, json={"model": MODEL, "messages": messages})
    assert code_of(reply) == (400, "bad_request")
    assert named in reply.json()["detail"]


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"model": ', b"\xff\xfe", b"[]", b"null", b'"text"'])
def test_garbage_json(api: httpx.Client, garbage: bytes) -> None:
    reply = api.post(CHAT, content=garbage, headers={"Content-Type": "application/json"})
    status, code = code_of(reply)
    assert status == 400
    assert code in {"invalid_json", "bad_request"}


def test_pin_to_an_unknown_worker(api: httpx.Client) -> None:
    reply = api.post(
        CHAT, json={"model": MODEL, "messages": HELLO}, headers={"X-Pendra-Worker-Id": "wrk-00000000-cpu9"}
    )
    assert code_of(reply) == (404, "worker_not_found")


def outcomes(stack: Stack) -> list[str]:
    """How requests ended, in their order: the audit log knows."""
    paths = sorted(stack.home.glob("audit/*/*.jsonl"))
    rows = [
        json.loads(line) for path in paths for line in path.read_text().splitlines(keepends=True) if line[-1:] == "\n"
    ]
    return [row["outcome"] for row in rows if row.get("job")]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(stack: Stack, *, stream: bool) -> None:
    assert eventually(lambda: stack.slots_busy() == 0)
    before = len(outcomes(stack))
    body = {"model": MODEL, "messages": HELLO, "stream": stream, "max_tokens": 4000, "ignore_eos": True}
    with leaving(stack, CHAT, body) as wire:
        assert eventually(lambda: stack.slots_busy() == 1)
        assert not stream or wire.getresponse().readline()
    assert eventually(lambda: stack.slots_busy() == 0), "the slot is still taken"
    assert eventually(lambda: outcomes(stack)[before:]) == ["cancelled"], "nobody waited for its end"
