"""How layers are spread reaches llama.cpp's own parameters."""

from __future__ import annotations

import pytest
from llama_cpp import llama_cpp as lib

from tasks.errors import ConfigError
from tests.worker.engine.conftest import StartEngine
from worker.engine.config import KvType
from worker.engine.model import LoadedModel
from worker.engine.spread import Spread


def test_parts_for_each_gpu() -> None:
    params = lib.llama_model_default_params()
    kept = Spread(7, (3.0, 1.0)).fill(params)
    assert params.n_gpu_layers == 7
    assert params.tensor_split[: len(kept)] == [3.0, 1.0, *[0.0] * (len(kept) - 2)]
    assert len(kept) == lib.llama_max_devices()


def test_one_gpu_for_everything() -> None:
    params = lib.llama_model_default_params()
    assert Spread(main_gpu=2).fill(params) is None
    assert (params.split_mode, params.main_gpu, params.n_gpu_layers) == (lib.LLAMA_SPLIT_MODE_NONE, 2, -1)
    assert not params.tensor_split


def test_more_parts_than_devices() -> None:
    with pytest.raises(ConfigError, match="tensor_split has 99 parts; allowed: "):
        Spread(tensor_split=(1.0,) * 99).fill(lib.llama_model_default_params())


@pytest.mark.parametrize("flash", [True, False, None])
@pytest.mark.parametrize(("keys", "values"), [(KvType.F32, KvType.F16), (KvType.F16, KvType.F32)])
def test_keys_and_values_of_different_types(
    start_engine: StartEngine,
    tiny: LoadedModel,
    keys: KvType,
    values: KvType,
    flash: bool | None,  # noqa: FBT001  # a parameter
) -> None:
    plain = start_engine(tiny, slots=1).run("The cat in", max_tokens=6)
    mixed = start_engine(tiny, slots=1, kv_type=keys, kv_type_v=values, flash_attn=flash)
    assert mixed.run("The cat in", max_tokens=6).tokens[:2] == plain.tokens[:2]
