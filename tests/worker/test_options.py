"""How settings, options and sidecar become one model's options."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.keep_alive import FOREVER
from tasks.model_options import KvType, LoraRef
from tasks.settings import Settings, load_settings
from worker.options import Options, options_of

ADAPTER = (LoraRef(path="a.gguf"),)


def settings(home: Path, **fields: object) -> Settings:
    return load_settings(home=home, worker_id="w", **fields)


def test_nothing_said(tmp_path):
    assert options_of(settings(tmp_path), "m") == Options(n_gpu_layers=0)
    assert options_of(settings(tmp_path, device="gpu0"), "m") == Options(cpu=False)


def test_a_later_layer_wins(tmp_path):
    ours = settings(
        tmp_path,
        n_batch=1,
        threads=1,
        max_concurrent=1,
        context_length=1,
        model_options={"*": {"n_batch": 2, "threads": 2}, "m": {"n_batch": 3, "keep_alive": 9}},
    )
    made = options_of(ours, "m")
    assert (made.n_batch, made.threads, made.slots, made.context_length, made.keep_alive) == (3, 2, 1, 1, 9)
    assert (options_of(ours, "other").n_batch, options_of(ours, "other").keep_alive) == (2, FOREVER)


@pytest.mark.parametrize(
    ("said", "lora"), [({}, ADAPTER), ({"lora": ["b.gguf"]}, (LoraRef(path="b.gguf"),)), ({"lora": []}, ())]
)
def test_options_win_over_the_sidecar(tmp_path, said, lora):
    assert options_of(settings(tmp_path, model_options={"m": said}), "m", ADAPTER).lora == lora


def test_a_model_may_stay_in_main_memory_beside_those_on_the_gpu(tmp_path):
    ours = settings(
        tmp_path,
        device="gpu0",
        model_options={"*": {"tensor_split": [1, 1]}, "small": {"n_gpu_layers": 0}, "part": {"n_gpu_layers": 7}},
    )
    assert options_of(ours, "small") == Options(cpu=True, n_gpu_layers=0)
    assert options_of(ours, "part") == Options(cpu=False, n_gpu_layers=7, tensor_split=(1, 1))


@pytest.mark.parametrize(("word", "flash"), [("auto", None), ("on", True), ("off", False)])
def test_flash_attention_and_the_caches_types(tmp_path, word, flash):
    said = {"flash_attn": word, "cache_type_k": "q8_0", "cache_type_v": "f16"}
    made = options_of(settings(tmp_path, model_options={"m": said}), "m")
    assert (made.flash_attn, made.kv_type, made.kv_type_v) == (flash, KvType.Q8_0, KvType.F16)
