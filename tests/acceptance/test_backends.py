"""External servers behind the whole stack: discovered, listed once, served, fallen back on, gone again.

The servers are the tests' fakes, spoken to over real HTTP by a real proxy worker; the clients are the official ones.
"""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path

import pendra
import pytest

from tests.acceptance.site import BLIND, CHAT, HELLO, PICTURE, SEER, Site
from tests.acceptance.stack import MODEL, eventually
from tests.fakes.lmstudio_server import GEMMA, LLAMA, NOMIC
from tests.fakes.ollama_models import EMBEDDER, PAINTER, THINKER, Model
from tests.fakes.speaches_server import KOKORO, TEXT, WHISPER
from tests.fakes.waiting import PATIENCE_S


def test_each_model_is_listed_once_with_what_it_is_for(site: Site) -> None:
    rows = site.models()
    assert len(rows) == len({row["id"] for row in rows})
    kinds = {row["id"]: (row["type"], row["backend"]) for row in rows}
    assert kinds == {
        MODEL: ("chat", "pendra"),
        CHAT.name: ("chat", "ollama"),
        THINKER.name: ("chat", "ollama"),
        BLIND.name: ("chat", "ollama"),
        SEER.name: ("chat", "ollama"),
        EMBEDDER.name: ("embedding", "ollama"),
        PAINTER.name: ("image", "ollama"),
        LLAMA.id: ("chat", "lmstudio"),
        GEMMA.id: ("chat", "lmstudio"),
        NOMIC.id: ("embedding", "lmstudio"),
        WHISPER: ("transcription", "speaches"),
        KOKORO: ("speech", "speaches"),
    }
    assert site.ids("embedding") == {EMBEDDER.name, NOMIC.id}
    assert site.ids("image") == {PAINTER.name}
    assert site.ids("transcription") == {WHISPER}


def test_the_openai_sdk_chats_and_streams(site: Site) -> None:
    whole = site.openai.chat.completions.create(model=CHAT.name, messages=HELLO)
    assert whole.choices[0].message.content == "Hello Ollama"
    assert whole.model == CHAT.name
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 11
    chunks = list(site.openai.chat.completions.create(model=CHAT.name, messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello Ollama"
    assert [chunk.usage.prompt_tokens for chunk in chunks if chunk.usage] == [11]


def test_the_pendra_sdk_names_the_proxy_worker(site: Site) -> None:
    reply = site.pendra.chat.completions.create(model=THINKER.name, messages=HELLO)
    assert reply.pendra is not None
    assert reply.pendra.worker.id.endswith("-proxy")
    assert reply.choices[0].message.reasoning_content == "Let me think."


def test_the_sdks_embed(site: Site) -> None:
    reply = site.openai.embeddings.create(model=EMBEDDER.name, input=["a", "bb"])
    assert [len(row.embedding) for row in reply.data] == [4, 4]
    assert len(site.pendra.embeddings.create(model=EMBEDDER.name, input="a").data) == 1


def test_the_openai_sdk_draws(site: Site) -> None:
    reply = site.openai.images.generate(model=PAINTER.name, prompt="a cat", size="256x256")
    assert base64.b64decode(reply.data[0].b64_json or "").startswith(b"\x89PNG")


def test_the_openai_sdk_transcribes_and_speaks(site: Site) -> None:
    said = site.openai.audio.transcriptions.create(model=WHISPER, file=("a.wav", b"RIFF" * 100, "audio/wav"))
    assert said.text == TEXT
    assert site.speaches.forms[-1]["file"][2] == b"RIFF" * 100
    speech = site.openai.audio.speech.create(model=KOKORO, voice="af_heart", input="Hello.")
    assert speech.content == site.speaches.audio


def test_moderations_are_refused_in_words(site: Site) -> None:
    reply = site.api.post("/v1/moderations", json={"input": "a"})
    assert reply.status_code == 400
    assert "moderat" in reply.json()["detail"]


def test_the_context_length_found_is_injected_and_a_clients_own_wins(site: Site) -> None:
    site.chat(CHAT.name)
    site.chat(CHAT.name, options={"num_ctx": 512})
    asked = [body["options"]["num_ctx"] for body in site.ollama.sent("/api/chat")[-2:]]
    assert asked == [CHAT.context_length, 512]


def test_the_preferred_backend_serves_and_a_pin_goes_past_it(site: Site) -> None:
    assert "-cpu0" in site.chat(MODEL).headers["x-worker-id"]
    proxy = site.chat(THINKER.name).headers["x-worker-id"]
    body = {"model": MODEL, "messages": HELLO}
    pinned = site.api.post("/v1/chat/completions", json=body, headers={"X-Pendra-Worker-Id": proxy})
    assert pinned.json()["choices"][0]["message"]["content"] == "Hello Ollama"


@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_token_another_backend_takes_over(site: Site, *, stream: bool) -> None:
    site.ollama.faults.statuses = [503] * 3
    reply = site.chat(CHAT.name, stream=stream)
    assert reply.status_code == 200
    assert "vLLM" in reply.text
    assert site.ollama.faults.statuses == []


def test_images_reach_a_model_that_sees(site: Site) -> None:
    reply = site.openai.chat.completions.create(model=SEER.name, messages=PICTURE)
    assert reply.choices[0].message.content == "Hello Ollama"
    assert site.ollama.sent("/api/chat")[-1]["messages"][0]["images"]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/embeddings", {"model": CHAT.name, "input": "a"}, EMBEDDER.name),
        ("/v1/chat/completions", {"model": EMBEDDER.name, "messages": HELLO}, CHAT.name),
        ("/v1/chat/completions", {"model": BLIND.name, "messages": PICTURE}, SEER.name),
        ("/v1/chat/completions", {"model": MODEL, "messages": PICTURE}, SEER.name),
    ],
)
def test_what_a_model_cannot_do_is_a_400_that_names_those_that_can(site: Site, path, body, named) -> None:
    reply = site.api.post(path, json=body)
    assert reply.status_code == 400, reply.text
    assert reply.headers["x-pendra-error-code"] in {"wrong_capability", "unsupported_content"}
    assert named in reply.json()["detail"]


def test_a_client_that_goes_away_closes_the_upstream_request(site: Site) -> None:
    site.ollama.closed.clear()
    site.ollama.faults.hang_after = 1
    try:
        body = {"model": THINKER.name, "messages": HELLO, "stream": True}
        with site.api.stream("POST", "/v1/chat/completions", json=body) as reply:
            next(reply.iter_lines())
        assert site.ollama.closed.wait(PATIENCE_S)
    finally:
        site.ollama.faults.hang_after = None


def test_an_upstream_error_is_ours_with_backend_and_status(site: Site) -> None:
    site.ollama.faults.statuses = [500] * 9
    reply = site.chat(THINKER.name)
    site.ollama.faults.statuses.clear()
    assert reply.status_code == 502
    assert "Ollama answered HTTP 500: llama runner process has terminated" in reply.json()["detail"]


def test_models_appear_and_vanish(site: Site) -> None:
    site.ollama.models.append(Model("new:1b"))
    assert eventually(lambda: "new:1b" in site.ids())
    assert site.chat("new:1b").status_code == 200
    site.ollama.models.pop()
    assert eventually(lambda: "new:1b" not in site.ids())
    assert site.chat("new:1b").status_code == 404


def test_pendra_backends_tells_what_the_proxy_found(site: Site) -> None:
    rows = site.backends()
    assert (rows["ollama"]["state"], rows["ollama"]["version"]) == ("found", site.ollama.version)
    assert {model["id"] for model in rows["vllm"]["models"]} == {CHAT.name}
    assert {row["state"] for name, row in rows.items() if name not in site.servers} <= {"off"}


def test_pendra_status_shows_the_proxy(site: Site) -> None:
    (row,) = site.stack.processes("proxy")
    assert row["device"] == "proxy"
    assert CHAT.name in row["models"]


def test_a_server_that_ends_is_withdrawn_and_what_others_have_stays(site: Site) -> None:
    before = site.ids()
    site.servers["ollama"].stop()
    try:
        assert eventually(lambda: THINKER.name not in site.ids()), site.ids()
        assert {row["id"]: row["backend"] for row in site.models()}[CHAT.name] == "vllm"
        assert "vLLM" in site.chat(CHAT.name).text
        assert site.chat(THINKER.name).status_code == 404
        row = site.backends()["ollama"]
        assert row["state"] == "missing"
        assert "refused" in row["why"]
    finally:
        site.servers["ollama"].start()
    assert eventually(lambda: site.ids() == before), site.ids()


@pytest.mark.parametrize("stream", [False, True])
def test_a_sealed_request_is_opened_by_the_proxy_worker(site: Site, tmp_path: Path, *, stream: bool) -> None:
    private = {"tofu_path": str(tmp_path / "known.json")}
    with pendra.Pendra(api_key=site.stack.key, base_url=site.stack.url, private_inference=private) as client:
        reply = client.chat.completions.create(model=CHAT.name, messages=HELLO, stream=stream)
        if not stream:
            assert reply.choices[0].message.content == "Hello Ollama"
            return
        assert "".join(one.choices[0].delta.content or "" for one in reply if one.choices) == "Hello Ollama"


def test_a_proxy_worker_that_dies_is_back_with_what_it_found(site: Site) -> None:
    before = site.ids()
    (row,) = site.stack.processes("proxy")
    os.kill(row["pid"], signal.SIGKILL)
    assert eventually(lambda: [one["pid"] for one in site.stack.processes("proxy")] not in ([], [row["pid"]]), 30)
    assert eventually(lambda: site.ids() == before, 30), site.ids()
    assert site.chat(THINKER.name).status_code == 200
