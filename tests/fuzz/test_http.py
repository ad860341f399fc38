"""What a client might send: any body, header and path; and what it gets when the bridge's answers are as bad.

The application is called as the server calls it, without a socket (tests/fuzz/test_sockets.py has the bytes).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from bridge.protocol import JobFrame, encode
from tasks.errors import BadRequestError
from tests.fuzz.cases import Fuzzer
from tests.fuzz.mutation import as_bytes, damaged, mutated, text
from tests.fuzz.plane import KID, SPOKEN, WORDS, WORKER, Connected, ended

SECRET = "quartzplume"
B64 = {"enc": "A" * 42 + "A=", "sealed_dek": "A" * 64}
SEALED = {"v": 2, "recipients": [{"kid": KID, **B64}], "nonce": "A" * 16, "ciphertext": "A" * 32, "affinity_key": "t"}
MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": SECRET}]}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CHAT = {"model": "m", "messages": MESSAGES, "tools": [TOOL], "temperature": 0.5, "stop": ["x"], "max_tokens": 4}
INSTALL = {"model": "m", "source": "https://x/y.gguf", "sha256": KID, "purpose": "chat"}
POSTS: dict[str, tuple[dict[str, Any], ...]] = {
    "/chat/completions": (CHAT, {**CHAT, "stream": True}, {"model": "m", "stream": True, "pendra_encrypted": SEALED}),
    "/completions": ({"model": "m", "prompt": [SECRET], "stream": False, "echo": True},),
    "/embeddings": ({"model": "e", "input": [SECRET]}, {"model": "e", "pendra_encrypted": SEALED}),
    "/rerank": ({"model": "r", "query": SECRET, "documents": ["a", {"text": "b"}]},),
    "/images/generations": ({"model": "p", "prompt": SECRET, "size": "256x256"},),
    "/audio/transcriptions": ({"model": "w", "pendra_encrypted": {**SEALED, "binary_nonce": "A" * 16}},),
    "/audio/speech": ({"model": "s", "input": SECRET, "voice": "v"},),
    "/moderations": ({"input": SECRET},),
    "/installs": (INSTALL,),
    "/uninstalls": ({"model": "m", "worker_id": WORKER, "force": True},),
    "/installs/abc/cancel": ({"discard": True},),
    "/admin/keys": ({"name": "k", "models": ["m*"], "rate": 5, "expires": "30d"},),
    "/admin/keys/key-1/revoke": ({},),
    "/admin/identities": ({"public_key": "A" * 43 + "=", "name": "n"},),
    "/admin/identities/x/approve": ({},),
}
GETS = (
    "/models",
    "/models/m",
    "/catalogue",
    "/private-inference/key",
    "/installs",
    "/admin/keys",
    "/admin/identities",
)
HEADERS = ("authorization", "x-api-key", "content-type", "x-pendra-worker-id", "x-pendra-priority", "content-length")
BOUNDARY = "xoxo"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nw\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    f"Content-Type: audio/wav\r\n\r\n{SECRET}\r\n--{BOUNDARY}--\r\n"
).encode()
Asked = tuple[str, str, dict[str, str], bytes]


class Answer:
    """What came back of one request. Raises AssertionError for what no server would let through."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.ended = False
        self.over = asyncio.Event()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "two status lines"
            self.status = message["status"]
            for name, value in message["headers"]:
                assert not {b"\r", b"\n", b"\0"} & {bytes([byte]) for byte in value}, name
                self.headers[name.decode("ascii")] = value.decode("latin-1")
        else:
            assert self.status, "a body before the status line"
            assert not self.ended, "more after the end"
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body")
            if self.ended:
                self.over.set()


class Client:
    """Sends whatever; `hostile` is how often the bridge's answer is changed, too."""

    def __init__(self, home: Path) -> None:
        self.connected = Connected(home, self._bridge)
        self.seen: Counter[int] = Counter()
        self._rng = Random(0)  # of the case that runs
        self._hostile = 0.0

    async def once(self, rng: Random, hostile: float = 0.0) -> None:
        self._rng, self._hostile = rng, hostile
        method, path, headers, body = asked(rng, self.connected.key)
        answer = await self.call(method, path, headers, body)
        self.seen[answer.status] += 1
        judge(answer, hostile=hostile > 0)
        self.connected.plane.hub.tick()
        self.connected.plane.usage.flush()
        assert self.connected.plane.hub.open_jobs == 0

    async def call(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        answer, place, _, query = Answer(), *path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": place,
            "raw_path": quote(place).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "headers": [(n.encode(), v.encode("latin-1", "replace")) for n, v in headers.items()],
        }
        half = self._rng.randrange(len(body) + 1)
        parts = [{"body": body[:half], "more_body": True}, {"body": body[half:], "more_body": False}]

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", **parts.pop(0)}
            return {"type": "http.disconnect"} if answer.ended else await _never(answer)

        await self.connected.app(scope, receive, answer.send)
        return answer

    def _bridge(self, job: JobFrame) -> None:
        """Answers at once; the hub has the job open by then only in the next turn of the loop."""
        asyncio.get_running_loop().call_soon(self._answer, job)

    def _answer(self, job: JobFrame) -> None:
        rng = self._rng
        sure = [encode(frame) for frame in ended(job)]
        if rng.random() < self._hostile:
            piece = {"job_id": job.job_id, "seq": 0, "data": rng.choice((WORDS, "{", '{"id":' * 3000))}
            about = {"worker_id": WORKER, "worker_name": "n", "retry_after": 1.0, "position": 1}
            error = {"code": "busy", "message": "m", "status": 429, "param": "p"}
            told = rng.choice((WORDS, SPOKEN, '{"a":"\\ud800"}', '{"id":' * 3000, '"said"', text(rng)))
            if told == SPOKEN:
                told = json.dumps(mutated(json.loads(SPOKEN), rng))
            said = rng.choice(
                (
                    {"type": "error", "job_id": job.job_id, "seq": 0, **about, **error},
                    {"type": "chunk", "events": [piece]},
                    {
                        "type": "result",
                        "job_id": job.job_id,
                        "seq": 0,
                        **about,
                        "data": told,
                        "timing": {"ttft_ms": 1},
                    },
                    {"type": "progress", "job_id": job.job_id, "seq": 0, "stage": "claimed", **about},
                )
            )
            sure.insert(0, as_bytes(mutated(said, rng), rng).decode(errors="replace"))
            sure.append(json.dumps({"type": "error", "job_id": job.job_id, "seq": 9, **about, **error}))
        for text_ in sure:
            try:
                self.connected.hear(text_)
            except BadRequestError:
                continue
        if self._hostile:
            self.connected.advertise()


async def _never(answer: Answer) -> dict[str, Any]:
    """A client that stays until it has its answer."""
    await answer.over.wait()
    return {"type": "http.disconnect"}


def asked(rng: Random, key: str) -> Asked:
    """A request near one that is right."""
    prefix = rng.choice(("/v1", "/api/v1"))
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    if rng.random() < 0.1:
        headers[rng.choice(HEADERS)] = text(rng).replace("\n", "")
    if rng.random() < 0.15:
        path = rng.choice(GETS)
        path += f"?{rng.choice(('type', 'state', text(rng)))}={text(rng)}" if rng.random() < 0.5 else ""
        return rng.choice(("GET", "HEAD", "OPTIONS", "DELETE")), _changed(prefix + path, rng), headers, b""
    if rng.random() < 0.1:
        headers["content-type"] = f"multipart/form-data; boundary={BOUNDARY}"
        return "POST", f"{prefix}/audio/transcriptions", headers, damaged(FORM, rng) if rng.random() < 0.8 else FORM
    path = rng.choice(list(POSTS))
    body = as_bytes(mutated(rng.choice(POSTS[path]), rng), rng)
    return "POST", _changed(prefix + path, rng), headers, body


def _changed(path: str, rng: Random) -> str:
    if rng.random() < 0.95:
        return path
    at = rng.randrange(len(path))
    return path[:at] + text(rng).replace("\0", "") + path[at:]


def judge(answer: Answer, *, hostile: bool) -> None:
    """An answer a client can do something with, that tells nothing of what was sent."""
    assert answer.ended
    assert 200 <= answer.status < 600
    assert answer.status != 500, bytes(answer.body)
    assert hostile or answer.status < 500 or answer.status == 503, (answer.status, bytes(answer.body))
    if answer.status >= 400 and answer.body and not hostile:
        problem = json.loads(answer.body)
        assert problem["code"] == answer.headers["x-pendra-error-code"]
        assert problem["code"] == "model_not_found" or SECRET not in answer.body.decode()  # that one names the model


@pytest.fixture
def client(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Client]:
    caplog.set_level(logging.CRITICAL + 1, "pendra")
    made = Client(tmp_path)
    yield made
    made.connected.plane.close()


async def test_requests_of_a_client(fuzzer: Fuzzer, client: Client) -> None:
    await fuzzer.run_async(client.once, sample=1500, all_of_them=30_000)
    assert all(client.seen[status] > 5 for status in (200, 400, 401, 404)), client.seen


async def test_replies_of_a_bridge(fuzzer: Fuzzer, client: Client) -> None:
    await fuzzer.run_async(lambda rng: client.once(rng, 0.8), sample=700, all_of_them=10_000)
    assert all(client.seen[status] > 5 for status in (200, 400, 429)), client.seen
