"""Models of all kinds in one real worker process: what loads, what does not and why, and that nobody else is hurt."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import keys
from tests.fakes.tiny_llama import write_tiny_llama
from tests.fakes.tiny_lora import write_tiny_lora
from tests.fakes.tiny_mamba import write_tiny_mamba
from tests.fakes.waiting import until
from tests.integration.worker_fleet import Fleet

pytestmark = pytest.mark.integration

BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "ignore_eos": True, "temperature": 0}
OPTIONS = {
    "*": {"n_batch": 64},
    "brief": {"keep_alive": 0, "slots": 1, "context_length": 128, "flash_attn": "off", "cache_type_k": "f32"},
    "unsuited": {"cache_type_k": "q8_0"},  # its heads are 16 wide, less than a block of q8_0
}


def renamed(path: Path, before: bytes, after: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(before, after))


def make_store(home: Path) -> None:
    for name in ("tiny", "brief", "adapted", "unsuited", "strange", "damaged"):
        write_tiny_llama(home / f"{name}.gguf", n_ctx=32_768)  # room for what has to be cancelled while it runs
    write_tiny_llama(home / "parted.gguf", split=8)
    write_tiny_llama(home / "lost.gguf", split=8)
    (home / "lost-00002-of-00003.gguf").unlink()
    write_tiny_llama(home / "huge.gguf", metadata={"llama.attention.key_length": 2**31})
    write_tiny_mamba(home / "recurrent.gguf")
    renamed(home / "strange.gguf", b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qlama")
    renamed(home / "damaged.gguf", b"blk.1.ffn_up", b"blk.1.ffn_uq")
    (home / "loras").mkdir()
    write_tiny_lora(home / "loras" / "one.gguf")
    (home / "adapted.gguf.meta.json").write_text(json.dumps({"lora": [{"path": "loras/one.gguf"}]}))


@pytest.fixture(scope="module")
def fleet(redis_server, tmp_path_factory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("fleet")
    make_store(home)
    fleet = Fleet(
        redis_server.url,
        home,
        "tiny",
        PENDRA_MODELS_DIR=str(home),
        PENDRA_THREADS="1",
        PENDRA_MODEL_OPTIONS=json.dumps(OPTIONS),
    )
    fleet.client.flushall()
    with fleet.worker("w1", slots=2, argv=(sys.executable, "-m", "worker.process")):
        yield fleet
    fleet.close()


def ask(fleet: Fleet, job_id: str, model: str, **body: object) -> list:
    fleet.submit(job_id, body=BODY | body, model=model, queue=keys.worker_queue("w1"))
    return fleet.finished(job_id)


def text_of(events: list) -> str:
    return json.loads(events[-1].data)["choices"][0]["message"]["content"]


def loaded(fleet: Fleet) -> set[str]:
    info = fleet.info("w1")
    return {model.id for model in info.models if model.loaded} if info else set()


@pytest.mark.parametrize(
    ("model", "code", "fix"),
    [
        ("damaged", "model_corrupt", "install the model again"),
        ("strange", "unsupported_architecture", "update llama-cpp-python"),
        ("lost", "missing_split", "install the model again"),
        ("huge", "out_of_memory", "take a smaller quantisation or free memory"),
        ("unsuited", "model_load_failed", "set f16 in PENDRA_MODEL_OPTIONS"),
    ],
)
def test_a_failed_load_says_why_and_what_to_do_and_others_are_served_on(fleet, model, code, fix):
    fleet.submit(f"runs-{model}", body=BODY | {"max_tokens": 30_000}, stream=True)
    until(lambda: "chunk" in fleet.types(f"runs-{model}"))
    failed = ask(fleet, model, model)[-1]
    assert (failed.type, failed.code) == ("failed", code)
    assert fix in failed.message
    assert "/" not in failed.message.replace("PENDRA_MODEL_OPTIONS", "")  # a user of the API sees no paths
    assert "tiny" in loaded(fleet)
    fleet.cancel(f"runs-{model}")
    assert fleet.finished(f"runs-{model}")[-1].code == "cancelled"
    assert ask(fleet, f"after-{model}", "tiny")[-1].type == "finished"


@pytest.mark.parametrize("model", ["parted", "recurrent", "adapted"])
def test_a_cold_model_is_loaded_and_its_progress_told(fleet, model):
    events = ask(fleet, model, model)
    stages = [(event.stage, event.fraction) for event in events if event.type == "progress"]
    assert stages[0][0] == "loading"
    assert [fraction for _, fraction in stages] == sorted(fraction for _, fraction in stages)
    assert events[-1].type == "finished"
    assert events[-1].timing.cold_start
    until(lambda: {"tiny", model} <= loaded(fleet))


def test_an_adapter_named_by_the_sidecar_changes_what_is_said(fleet):
    assert text_of(ask(fleet, "plain-text", "tiny")) != text_of(ask(fleet, "adapted-text", "adapted"))
    assert text_of(ask(fleet, "parted-text", "parted")) == text_of(ask(fleet, "plain-again", "tiny"))


def test_keep_alive_0_unloads_when_the_request_ends(fleet):
    assert ask(fleet, "brief", "brief")[-1].type == "finished"
    until(lambda: "runtime.unloaded model=brief why=idle" in fleet.log("w1").read_text())
    until(lambda: "brief" not in loaded(fleet))
    assert ask(fleet, "brief-again", "brief")[-1].timing.cold_start
    assert "context=128" in fleet.log("w1").read_text()


def test_a_request_may_keep_it(fleet):
    assert ask(fleet, "kept", "brief", keep_alive="10m")[-1].type == "finished"
    until(lambda: "brief" in loaded(fleet))
    assert not ask(fleet, "warm", "brief", keep_alive="10m")[-1].timing.cold_start


def test_a_bad_keep_alive_is_a_400(fleet):
    failed = ask(fleet, "bad-keep", "tiny", keep_alive="a while")[-1]
    assert (failed.code, failed.param) == ("bad_request", "keep_alive")
