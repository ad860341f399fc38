"""Private inference with the official SDK, unmodified, through the whole stack."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pendra
import pytest
from cryptography.exceptions import InvalidTag

from tests.acceptance.leaks import in_memory
from tests.acceptance.site import CHAT, Site
from tests.acceptance.stack import MODEL, Stack
from tests.fakes.ollama_models import PAINTER
from worker.private import keys

ASK = [{"role": "user", "content": "Say hello to the quagmirelet."}]


def client(stack: Stack, tmp_path: Path, **options: str) -> pendra.Pendra:
    private = {"tofu_path": str(tmp_path / "known.json"), **options}
    return pendra.Pendra(api_key=stack.key, base_url=stack.url, private_inference=private)


def pin(stack: Stack) -> str:
    return keys.load(stack.home / "workload-key")[0].kid


@pytest.fixture(params=["trusting", "pinned"])
def private(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Iterator[pendra.Pendra]:
    options = {"pinned_fingerprint": pin(stack)} if request.param == "pinned" else {}
    with client(stack, tmp_path, **options) as made:
        yield made


def test_a_whole_reply(private: pendra.Pendra, pendra_client: pendra.Pendra) -> None:
    asked = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 16}
    sealed = private.chat.completions.create(**asked)
    plain = pendra_client.chat.completions.create(**asked)
    assert sealed.choices[0].message.content == plain.choices[0].message.content
    assert sealed.usage.completion_tokens == plain.usage.completion_tokens
    assert sealed.pendra.worker.id


def test_a_stream(private: pendra.Pendra, pendra_client: pendra.Pendra) -> None:
    def text(one: pendra.Pendra) -> str:
        with one.chat.completions.create(
            model=MODEL, messages=ASK, temperature=0, max_tokens=24, stream=True
        ) as stream:
            said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            assert stream.worker is not None
            return said

    assert text(private) == text(pendra_client)


def test_other_servers_models(site: Site, tmp_path: Path) -> None:
    """Their requests are opened by the proxy worker, and no other part of ours."""
    with client(site.stack, tmp_path) as made:
        whole = made.chat.completions.create(model=CHAT.name, messages=ASK, max_tokens=4)
        with made.chat.completions.create(model=CHAT.name, messages=ASK, max_tokens=4, stream=True) as stream:
            assert list(stream)
        image = made.images.generations.create(model=PAINTER.name, prompt="a cat", size="256x256")
    assert whole.choices[0].message.content
    assert image.data[0].b64_json


def test_a_wrong_pin_is_refused(stack: Stack, tmp_path: Path) -> None:
    with (
        client(stack, tmp_path, pinned_fingerprint="ab" * 32) as made,
        pytest.raises(Exception, match="Refusing to seal"),
    ):
        made.chat.completions.create(model=MODEL, messages=ASK)


# ---------------------------------------------------------------- what a relay might do to a reply

STREAM = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 8, "stream": True}


class Relay(httpx.BaseTransport):
    """Between SDK and API: rewrites the lines of a stream that carry frames."""

    def __init__(self, change: Callable[[list[str]], list[str]]) -> None:
        self._change = change
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._real.handle_request(request)
        body = reply.read().decode()
        reply.close()
        if "event-stream" in reply.headers["content-type"]:
            lines = body.split("\n\n")
            frames = [line for line in lines if "pendra_encrypted" in line]
            others = [line for line in lines if "pendra_encrypted" not in line]
            body = "\n\n".join([*self._change(frames), *others])
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() != b"content-length"]
        return httpx.Response(reply.status_code, headers=headers, content=body.encode(), request=request)

    def close(self) -> None:
        self._real.close()


def tampered(frames: list[str]) -> list[str]:
    data = json.loads(frames[2].removeprefix("data: "))
    sealed = data["pendra_encrypted"]
    raw = bytearray(base64.b64decode(sealed["ciphertext"]))
    raw[0] ^= 1
    sealed["ciphertext"] = base64.b64encode(raw).decode()
    return [*frames[:2], f"data: {json.dumps(data)}", *frames[3:]]


def swapped_numbers(frames: list[str]) -> list[str]:
    """Reordered, and renumbered so that the order looks right."""
    return [
        *frames[:2],
        frames[3].replace('"seq":3', '"seq":2'),
        frames[2].replace('"seq":2', '"seq":3'),
        *frames[4:],
    ]


UNSEALED = 'data: {"id":"x","choices":[{"delta":{"content":"hi"}}]}'
FORGERIES: dict[str, Callable[[list[str]], list[str]]] = {
    "tampered": tampered,
    "truncated": lambda frames: frames[:-1],
    "emptied": lambda _frames: [],
    "replayed": lambda frames: [*frames[:3], frames[2], *frames[3:]],
    "reordered": lambda frames: [*frames[:2], frames[3], frames[2], *frames[4:]],
    "renumbered": swapped_numbers,
    "dropped": lambda frames: [*frames[:2], *frames[3:]],
    "unsealed": lambda frames: [*frames[:2], UNSEALED, *frames[2:]],
}


def through(stack: Stack, tmp_path: Path, change: Callable[[list[str]], list[str]]) -> list[object]:
    with client(stack, tmp_path) as made:
        made._http._transport.close()
        made._http._transport, made._http._mounts = Relay(change), {}
        with made.chat.completions.create(**STREAM) as stream:
            return list(stream)


@pytest.mark.parametrize("how", FORGERIES)
def test_the_sdk_refuses_a_reply_that_is_not_the_workers(stack: Stack, tmp_path: Path, how: str) -> None:
    with pytest.raises((ValueError, InvalidTag)):
        through(stack, tmp_path, FORGERIES[how])


def test_the_sdk_takes_the_same_reply_unchanged(stack: Stack, tmp_path: Path) -> None:
    assert len(through(stack, tmp_path, lambda frames: frames)) > 3


def test_a_replayed_request_is_refused(stack: Stack, tmp_path: Path) -> None:
    """Its reply would be sealed under a key that was used."""
    sent: list[httpx.Request] = []
    with client(stack, tmp_path) as made:
        made._http.event_hooks = {"request": [sent.append], "response": []}
        made.chat.completions.create(model=MODEL, messages=ASK, max_tokens=2)
    again = httpx.post(str(sent[-1].url), content=sent[-1].content, headers=dict(sent[-1].headers), timeout=60)
    assert (again.status_code, again.json()["code"]) == (409, "private_replayed")


# ---------------------------------------------------------------- who can read it


def test_neither_bridge_nor_api_ever_has_it_in_memory(
    stack: Stack, private: pendra.Pendra, pendra_client: pendra.Pendra
) -> None:
    plain, sealed = "plumquartzine", "velvetnought"

    def ask(one: pendra.Pendra, word: str) -> None:
        messages = [{"role": "user", "content": f"Repeat this word: {word}"}]
        one.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
        with one.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, stream=True) as stream:
            assert list(stream)

    ask(private, sealed)
    ask(pendra_client, plain)
    pids = {role: stack.processes(role)[0]["pid"] for role in ("bridge", "controlplane", "redis")}
    assert in_memory(pids["bridge"], [plain.encode()]), "the scan finds what is there"
    assert {role: in_memory(pid, [sealed.encode()]) for role, pid in pids.items()} == {role: set() for role in pids}


def test_the_private_key_is_in_workers_only(stack: Stack) -> None:
    raw = keys.load(stack.home / "workload-key")[0].private.private_bytes_raw()
    text = base64.b64encode(raw)
    for role in ("bridge", "controlplane", "redis", "agent"):
        pid = stack.processes(role)[0]["pid"]
        assert in_memory(pid, [raw, text]) == set(), role
        assert text not in Path(f"/proc/{pid}/environ").read_bytes()
