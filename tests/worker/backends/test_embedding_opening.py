"""Embedding models of the store, from the cold file to the reply, beside a chat model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError, WorkerError
from tasks.settings import load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, chat
from tests.fakes.tiny_bert import write_tiny_bert
from tests.fakes.tiny_llama import write_tiny_llama
from worker.backends.base import CancelToken
from worker.backends.embedding_opening import embed_config
from worker.capacity import RESERVE, Plan, demand_of, slots_from_memory
from worker.options import Options
from worker.runtime import Runtime


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_tiny_bert(folder / "mini.gguf")
    write_tiny_bert(folder / "rank.gguf", pooling=gguf.PoolingType.RANK)
    write_tiny_llama(folder / "talk.gguf")
    write_tiny_llama(folder / "claims.gguf")
    (folder / "claims.gguf.meta.json").write_text(json.dumps({"id": "claims", "purpose": "embedding"}))
    return folder


@pytest.fixture(scope="module")
def runtime(store: Path) -> Iterator[Runtime]:
    settings = load_settings(home=store, models_dir=store, worker_id="w", device="cpu0", threads=1)
    runtime = Runtime(settings, 4, DirectPublisher(), lambda: None)
    yield runtime
    runtime.close()


def ask(runtime: Runtime, kind: JobKind, model: str, **body: Any) -> dict[str, Any]:
    job = Job(job_id="j", model=model, kind=kind, body=body, created=1, bridge_id="b")
    reply = RecordingReply(job)
    runtime.serve(job, reply, CancelToken())
    return json.loads(reply.finished.data)


def test_each_model_does_what_its_file_says(runtime):
    assert {model.id: model.capability for model in runtime.models()} == {
        "claims": "embedding",
        "mini": "embedding",
        "rank": "rerank",
        "talk": "chat",
    }
    assert len(ask(runtime, JobKind.EMBEDDINGS, "mini", input=["a", "cat"])["data"]) == 2
    assert len(ask(runtime, JobKind.RERANK, "rank", query="q", documents=["a", "b"])["results"]) == 2
    spoken = chat(model="talk", stream=False, max_tokens=2)
    reply = RecordingReply(spoken)
    runtime.serve(spoken, reply, CancelToken())
    assert reply.finished.usage.completion_tokens == 2
    assert set(runtime.loaded()) == {"mini", "rank", "talk"}
    served = {model.id: model.context_length for model in runtime.models() if model.loaded}
    assert (served["mini"], served["rank"]) == (64, 64)
    assert runtime.stats()["mini"].slots_total == 4


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (JobKind.EMBEDDINGS, "talk"),
        (JobKind.EMBEDDINGS, "rank"),
        (JobKind.RERANK, "mini"),
        (JobKind.RERANK, "talk"),
        (JobKind.CHAT, "mini"),
    ],
)
def test_the_wrong_model_for_it(kind, model, runtime):
    with pytest.raises(BadRequestError, match=model):
        ask(runtime, kind, model, input="a", query="q", documents=["a"], messages=[{"role": "user", "content": "a"}])


def test_a_chat_model_that_is_said_to_embed(runtime):
    with pytest.raises(WorkerError, match="does not say how the vectors of a text's tokens become one") as caught:
        ask(runtime, JobKind.EMBEDDINGS, "claims", input="a")
    assert caught.value.code == "unsupported_architecture"


def test_a_cpu_computes_small_batches_in_two_lanes_and_a_gpu_large_ones_in_one():
    plan = Plan(4, 2048)
    cpu = embed_config(plan, Options(cpu=True, threads=3))
    assert (cpu.lanes, cpu.pack_tokens, cpu.on_cpu, cpu.threads, cpu.ctx_per_input) == (2, 128, True, 3, 2048)
    gpu = embed_config(plan, Options(cpu=False, threads=3))
    assert (gpu.lanes, gpu.pack_tokens, gpu.on_cpu) == (1, 512, False)
    assert embed_config(plan, Options(cpu=True, n_batch=777)).pack_tokens == 777


def test_what_embedding_models_ask_of_memory(runtime, store):
    mini = runtime._catalogue.find("mini")
    demand = demand_of(mini, Options())
    assert demand.kv_bytes_per_token == 0
    assert demand.model_bytes == mini.size_bytes + 64 * mini.info.kv_bytes_per_token
    settings = load_settings(home=store, models_dir=store, worker_id="w", device="cpu0", models=("mini",))
    assert slots_from_memory(settings) >= 1


def test_an_embedding_model_of_many_words_needs_room_for_the_logits_of_two_lanes(runtime):
    mini = runtime._catalogue.find("mini")
    wordy = replace(mini, info=replace(mini.info, vocab_size=10**7))
    cpu, gpu = Options(cpu=True), Options(cpu=False)
    assert demand_of(wordy, cpu).reserve == 2 * 64 * 10**7 * 4
    assert demand_of(wordy, gpu).reserve == demand_of(mini, cpu).reserve == RESERVE
