"""What each backend can do (docs/backends.md): every yes works, every dash is refused with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.site import CHAT, Site
from tests.acceptance.stack import MODEL, eventually
from tests.fakes.lmstudio_server import LLAMA, NOMIC
from tests.fakes.ollama_models import EMBEDDER, PAINTER, THINKER
from tests.fakes.speaches_server import TEXT, WHISPER
from tests.fakes.tiny_bert import write_tiny_bert
from tests.fakes.vllm_server import VllmServer

VLLM_CHAT, VLLM_EMBED, BERT = "Qwen/Qwen2.5-7B-Instruct", "BAAI/bge-m3", "tiny-bert:1m"
YES = {
    ("pendra", "chat"): MODEL,
    ("pendra", "embed"): BERT,
    ("ollama", "chat"): THINKER.name,
    ("ollama", "embed"): EMBEDDER.name,
    ("ollama", "image"): PAINTER.name,
    ("lmstudio", "chat"): LLAMA.id,
    ("lmstudio", "embed"): NOMIC.id,
    ("vllm", "chat"): VLLM_CHAT,
    ("vllm", "embed"): VLLM_EMBED,
    ("speaches", "transcribe"): WHISPER,
}
DASHES = {
    ("pendra", "image"): MODEL,
    ("pendra", "transcribe"): MODEL,
    ("ollama", "transcribe"): THINKER.name,
    ("lmstudio", "image"): LLAMA.id,
    ("lmstudio", "transcribe"): LLAMA.id,
    ("vllm", "image"): CHAT.name,
    ("vllm", "transcribe"): CHAT.name,
    ("speaches", "chat"): WHISPER,
    ("speaches", "embed"): WHISPER,
    ("speaches", "image"): WHISPER,
}
"""The model that is asked; a model for the same cannot be there."""


@pytest.fixture(scope="module")
def bert(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An embedding model of the built-in engine, installed and removed as a user would."""
    path = tmp_path_factory.mktemp("bert") / "tiny-bert.gguf"
    write_tiny_bert(path)
    made = site.managed("installs", BERT, source=path.as_uri(), purpose="embedding", backend="pendra")
    assert made["state"] == "done", made
    assert eventually(lambda: BERT in site.ids("embedding"))
    yield path
    site.managed("uninstalls", BERT, backend="pendra")


def ask(site: Site, what: str, model: str) -> httpx.Response:
    if what == "chat":
        return site.chat(model)
    if what == "embed":
        return site.api.post("/v1/embeddings", json={"model": model, "input": ["a", "b"]})
    if what == "image":
        return site.api.post("/v1/images/generations", json={"model": model, "prompt": "a cat", "size": "256x256"})
    sound = {"file": ("a.wav", b"RIFF", "audio/wav")}
    return site.api.post("/v1/audio/transcriptions", data={"model": model}, files=sound)


def worth(what: str, reply: dict[str, Any]) -> bool:
    """Whether the reply has what was asked for."""
    if what == "chat":
        return bool(reply["choices"][0]["message"]["content"] and reply["usage"]["prompt_tokens"])
    if what == "embed":
        return [len(row["embedding"]) > 1 for row in reply["data"]] == [True, True]
    if what == "transcribe":
        return bool(reply["text"] == TEXT)
    return bool(reply["data"][0]["b64_json"])


@contextmanager
def holding(site: Site, backend: str, what: str, model: str) -> Iterator[None]:
    """vLLM serves one model at a time."""
    task = "embed" if what == "embed" else "generate"
    app = VllmServer(model=model, task=task).app()
    with site.another("vllm", app, model) if backend == "vllm" else nullcontext():
        yield


@pytest.mark.parametrize(("backend", "what"), YES)
@pytest.mark.usefixtures("bert")
def test_every_yes_works(site: Site, backend: str, what: str) -> None:
    model = YES[backend, what]
    with holding(site, backend, what, model):
        row = next(row for row in site.models() if row["id"] == model)
        reply = ask(site, what, model)
    assert row["backend"] == backend
    assert reply.status_code == 200, reply.text
    assert worth(what, reply.json())


@pytest.mark.parametrize(("backend", "what"), DASHES)
def test_every_dash_is_refused_with_its_reason(site: Site, backend: str, what: str) -> None:
    model = DASHES[backend, what]
    assert backend == "pendra" or eventually(lambda: site.found(backend, model))
    reply = ask(site, what, model)
    assert reply.status_code == 400, reply.text
    able = {"image": PAINTER.name, "transcribe": WHISPER, "chat": THINKER.name, "embed": EMBEDDER.name}
    assert reply.headers["x-pendra-error-code"] == "wrong_capability"
    purpose = "transcription" if backend == "speaches" else "chat"
    assert f"'{model}' is for {purpose}" in reply.json()["detail"]
    assert able[what] in reply.json()["detail"], "who can is named"


def test_ollama_installs_and_uninstalls(site: Site) -> None:
    site.ollama.registry.library["pulled:1b"] = {"sha256:" + "a" * 64: 1000}
    assert site.managed("installs", "pulled:1b", backend="ollama")["state"] == "done"
    assert eventually(lambda: "pulled:1b" in site.ids())
    assert site.chat("pulled:1b").status_code == 200
    assert site.managed("uninstalls", "pulled:1b", backend="ollama")["state"] == "done"
    assert eventually(lambda: "pulled:1b" not in site.ids())


def test_the_command_installs_into_ollama_with_progress_and_removes(site: Site) -> None:
    layers = {"sha256:" + "b" * 64: 10_000, "sha256:" + "c" * 64: 500}
    site.ollama.registry.library["typed:1b"] = layers
    site.ollama.registry.hangs_after = sum(site.ollama.registry.pulled.values()) + 5_000
    with site.stack.cli_started("models", "install", "typed:1b", "--backend", "ollama", "--all", "--wait") as install:
        try:
            progress = r"typed:1b on wrk-\w+: (pulling|downloading)"
            assert any(re.match(progress, line) for line in install.stderr or ()), "it says how far it is"
            site.ollama.registry.hangs_after = None
            assert install.wait(30) == 0
        finally:
            site.ollama.registry.hangs_after = None
            install.kill()
    assert site.ollama.registry.pulled.items() >= layers.items(), "all of it came"
    assert eventually(lambda: "typed:1b" in site.ids("chat"))
    reply = site.openai.chat.completions.create(model="typed:1b", messages=[{"role": "user", "content": "hello"}])
    assert reply.choices[0].message.content == "Hello Ollama"
    gone = site.stack.cli("models", "uninstall", "typed:1b", "--backend", "ollama", "--all")
    assert gone.returncode == 0, gone.stderr
    assert eventually(lambda: "typed:1b" not in site.ids())
    assert site.chat("typed:1b").status_code == 404


def test_lm_studio_installs_and_sends_to_its_app_to_uninstall(site: Site) -> None:
    site.lmstudio.catalogue["ibm/granite-4-micro"] = 1000
    assert site.managed("installs", "ibm/granite-4-micro", backend="lmstudio")["state"] == "done"
    site.lmstudio.models.pop()
    ended = site.managed("uninstalls", LLAMA.id, backend="lmstudio")
    assert (ended["state"], ended["error"]["code"]) == ("failed", "uninstall_unsupported")
    assert "remove it in the LM Studio app" in ended["error"]["message"]


def test_speaches_installs_and_uninstalls(site: Site) -> None:
    small = "Systran/faster-whisper-small"
    assert site.managed("installs", small, backend="speaches")["state"] == "done"
    assert eventually(lambda: small in site.ids("transcription"))
    assert site.managed("uninstalls", small, backend="speaches")["state"] == "done"
    assert eventually(lambda: small not in site.ids())


@pytest.mark.parametrize(
    ("what", "model", "code"),
    [("installs", "facebook/opt-125m", "install_unsupported"), ("uninstalls", CHAT.name, "uninstall_unsupported")],
)
def test_vllm_is_managed_externally(site: Site, what: str, model: str, code: str) -> None:
    ended = site.managed(what, model, backend="vllm")
    assert (ended["state"], ended["error"]["code"]) == ("failed", code)
    assert "managed externally" in ended["error"]["message"]
