"""A very long prompt beside running streams: each step has a token for each of them, and at most a chunk of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_llama import write_tiny_llama
from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY
from tests.worker.engine.test_scheduler import World, prompt
from worker.engine.api import GenerationRequest
from worker.engine.model import LoadedModel
from worker.engine.sequence import State

LONG = 30_000


@pytest.mark.parametrize("chunk", [64, 512])
def test_30000_tokens_never_make_a_stream_miss_a_step(chunk: int) -> None:
    world = World(slots=4, cells=100_000, n_batch=512)
    world.scheduler.chunk = chunk
    streams = [world.add(str(name), prompt(4, first=10 * name), reply=2000) for name in range(3)]
    world.step()
    assert [seq.state for seq in streams] == [State.DECODE] * 3
    long = world.add("long", prompt(LONG))
    steps = 0
    while long.state is not State.DECODE:
        plan = world.step()
        steps += 1
        assert plan.decode == streams
        assert sum(count for _, count in plan.prefill) <= min(chunk, 512 - len(streams))
    assert steps == -(-LONG // min(chunk, 512 - len(streams)))


def test_the_engine_streams_on_through_a_long_prompt(tmp_path: Path, start_engine: StartEngine) -> None:
    chunk, length = 32, 3000
    with LoadedModel(write_tiny_llama(tmp_path / "long.gguf", n_ctx=8192), n_gpu_layers=0) as model:
        harness = start_engine(model, slots=2, ctx_per_seq=8192, prefill_chunk=chunk, speculation=False)
        under_way = harness.stop_at("stream", lambda reply: len(reply.tokens) > 4)
        harness.submit("stream", "The cat", max_tokens=400)
        with under_way:
            seen = len(harness.replies["stream"].tokens)
            harness.engine.submit(GenerationRequest("long", (5,) * length, sampling=GREEDY, max_tokens=2))
        harness.wait_for("long", lambda reply: reply.tokens)
        at = next(i for i, outputs in enumerate(harness.steps) if any(one.request_id == "long" for one in outputs))
        before = [one for outputs in harness.steps[:at] for one in outputs if one.request_id == "stream"]
        got = sum(len(one.tokens) for one in before)
        assert got - seen >= length // chunk - 2  # those that were on their way when it was submitted
        harness.close()
