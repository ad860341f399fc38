"""Every path through the stack once, with words of its own on each."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pendra
import pytest

from tests.acceptance.canaries import Canaries
from tests.acceptance.site import CHAT, Site
from tests.acceptance.stack import MODEL, eventually
from tests.fakes.ollama_models import EMBEDDER, PAINTER, THINKER
from tests.fakes.speaches_server import KOKORO, WHISPER

RERANKER = "tiny-rank"


class Traffic:
    """Every path once, with words of its own."""

    def __init__(self, site: Site, canaries: Canaries, scratch: Path) -> None:
        self.site, self.say = site, canaries
        private = {"tofu_path": str(scratch / "known.json")}
        self.sealed = pendra.Pendra(api_key=site.stack.key, base_url=site.stack.url, private_inference=private)

    def text(self) -> None:
        say, ask = self.say, self.post
        assert ask("chat/completions", model=MODEL, messages=say.asking("chat"), max_tokens=4).status_code == 200
        stream = ask("chat/completions", model=MODEL, messages=say.asking("stream"), max_tokens=4, stream=True)
        assert stream.text.endswith("data: [DONE]\n\n")
        assert ask("completions", model=MODEL, prompt=say["legacy"], max_tokens=4, stop=[say["stop"]]).is_success
        assert ask("embeddings", model=EMBEDDER.name, input=[say["embed"]]).status_code == 200
        ranked = ask("rerank", model=RERANKER, query=say["query"], documents=[say["document"], "b"])
        assert ranked.status_code == 200, ranked.text

    def shapes(self) -> None:
        """Tools, a schema that makes the model say a word, and what another server replies."""
        say, ask = self.say, self.post
        function = {"name": "look_up", "description": say["tool"], "parameters": {"type": "object"}}
        tools = [{"type": "function", "function": function}]
        assert ask(
            "chat/completions", model=MODEL, messages=say.asking("tools"), tools=tools, max_tokens=8
        ).is_success
        schema = {"type": "object", "properties": {"w": {"enum": [say["schema"]]}}, "required": ["w"]}
        shape = {
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": {**schema, "additionalProperties": False}},
        }
        told = ask(
            "chat/completions", model=MODEL, messages=say.asking("shape"), response_format=shape, max_tokens=64
        )
        assert say["schema"] in told.text, told.text
        self.site.ollama.words = ("It", " said ", say["reply"])
        assert say["reply"] in ask("chat/completions", model=CHAT.name, messages=say.asking("elsewhere")).text

    def wrong(self) -> None:
        """Errors, early and late ones."""
        say, ask = self.say, self.post
        words = say.asking("badfield")
        assert ask("chat/completions", model=MODEL, messages=words, temperature=say["badvalue"]).status_code == 400
        long = [{"role": "user", "content": f"{say['overflow']} " * 3000}]
        assert ask("chat/completions", model=MODEL, messages=long).status_code == 400
        assert ask("chat/completions", model="no-such-model", messages=say.asking("nomodel")).status_code == 404
        bad = '{"model": "%s", "messages": "%s' % (MODEL, say["badjson"])  # noqa: UP031  # braces
        assert self.site.api.post("/v1/chat/completions", content=bad).status_code == 400
        self.site.ollama.faults.statuses = [500] * 9
        assert ask("chat/completions", model=THINKER.name, messages=say.asking("upstream")).status_code == 502
        self.site.ollama.faults.statuses.clear()
        wrong = httpx.get(f"{self.site.stack.url}/v1/models", headers={"x-api-key": say["wrongkey"]}, timeout=30)
        assert wrong.status_code == 401

    def media(self) -> None:
        say, site = self.say, self.site
        recording = say["audio"].encode() * 40_000  # goes in pieces
        file = (f"{say['filename']}.wav", io.BytesIO(recording))
        assert site.openai.audio.transcriptions.create(model=WHISPER, file=file, prompt=say["hint"]).text
        spoken = site.openai.audio.speech.create(model=KOKORO, input=say["speech"], voice="af_heart")
        assert spoken.read()
        image = site.openai.images.generate(model=PAINTER.name, prompt=say["image"], size="256x256")
        assert base64.b64decode(image.data[0].b64_json or "").startswith(b"\x89PNG")

    def private(self) -> None:
        say, chats = self.say, self.sealed.chat.completions
        assert chats.create(model=MODEL, messages=say.asking("sealed"), max_tokens=4).choices
        with chats.create(model=MODEL, messages=say.asking("sealedstream"), max_tokens=4, stream=True) as stream:
            assert list(stream)
        assert self.sealed.embeddings.create(model=EMBEDDER.name, input=say["sealedembed"]).data
        assert self.sealed.rerank.create(model=RERANKER, query=say["sealedquery"], documents=["a", "b"]).results
        assert self.sealed.images.generations.create(
            model=PAINTER.name, prompt=say["sealedimage"], size="256x256"
        ).data
        file = ("a.wav", say["sealedaudio"].encode() * 400)
        assert self.sealed.audio.transcriptions.create(model=WHISPER, file=file).text
        with pytest.raises(pendra.APIError):
            chats.create(model=MODEL, messages=say.asking("sealederror"), temperature=say["sealedvalue"])

    def long_streams(self, meanwhile: Callable[[], None]) -> None:
        """A plain and a sealed one; when both have begun, `meanwhile` happens, and then both go on."""
        asked = {"model": MODEL, "max_tokens": 3000, "stream": True, "temperature": 0}
        on = {"ignore_eos": True}  # so that they are still under way whatever the machine's speed
        plain = self.site.openai.chat.completions.create(**asked, messages=self.say.asking("failover"), extra_body=on)
        sealed = self.sealed.chat.completions.create(**asked, messages=self.say.asking("sealedfailover"), **on)
        readers = [Reader(plain), Reader(sealed)]
        assert eventually(lambda: all(reader.chunks > 2 for reader in readers), 60)
        meanwhile()
        assert [reader.goes_on() for reader in readers] == [None, None]

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.site.api.post(f"/v1/{path}", json=body)

    def close(self) -> None:
        self.sealed.close()


class Reader:
    """Reads a stream in a thread of its own, until it has enough."""

    def __init__(self, stream: Any) -> None:
        self.chunks = 0
        self._enough = math.inf
        self._stream = stream
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            with self._stream:
                for _ in self._stream:
                    self.chunks += 1
                    if self.chunks >= self._enough:
                        return
            self._problem = EOFError("it ended by itself")
        except (openai.OpenAIError, pendra.APIError, ValueError, httpx.HTTPError) as exc:
            self._problem = exc

    def goes_on(self, chunks: int = 50) -> Exception | None:
        """So many more, and nobody reads on; what went wrong."""
        self._enough = self.chunks + chunks
        self._thread.join(180)
        assert not self._thread.is_alive()
        return self._problem
