"""A quantised KV cache on a real model: it answers as it does unquantised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY
from worker.engine.api import GenerationRequest
from worker.engine.config import KvType
from worker.engine.model import LoadedModel

ASK = "<|im_start|>user\nName the capital of France in one short sentence.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Iterator[LoadedModel]:
    with LoadedModel(smollm2, n_gpu_layers=0) as model:
        yield model


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (KvType.Q8_0, KvType.Q8_0),
        (KvType.Q8_0, KvType.F16),
        (KvType.F16, KvType.Q8_0),
        (KvType.BF16, KvType.BF16),
        (KvType.Q5_1, KvType.Q5_1),
    ],
)
def test_it_still_knows_paris(real: LoadedModel, start_engine: StartEngine, keys: KvType, values: KvType) -> None:
    harness = start_engine(real, slots=2, kv_type=keys, kv_type_v=values)
    prompt = tuple(real.tokenize(ASK, parse_special=True))
    harness.engine.submit(GenerationRequest("r", prompt, sampling=GREEDY, max_tokens=16))
    assert "Paris" in harness.wait("r").text
