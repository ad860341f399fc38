"""Slots and context from memory: every number of the plan follows from the rule in its docstring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import WorkerError
from tasks.model_options import KvType
from tasks.settings import load_settings
from tests.fakes.tiny_llama import write_tiny_llama
from tests.fakes.tiny_lora import write_tiny_lora
from tests.fakes.tiny_mamba import write_tiny_mamba
from worker import memory
from worker.capacity import (
    RESERVE,
    Demand,
    Plan,
    demand_of,
    most_slots,
    plan_slots,
    slots_from_memory,
    together,
    usable,
    wanted_ctx,
)
from worker.engine.config import Adapter
from worker.options import Options
from worker.store.catalogue import Catalogue

GB = 1024**3
MB = 1024**2
KV = 128 * 1024  # an 8B model with grouped heads
EIGHT_B = 5 * GB


def plan(free: int, **more: object) -> Plan:
    fields = {"model_bytes": EIGHT_B, "kv_bytes_per_token": KV, "n_ctx_train": 131072, "cpu": False} | more
    return plan_slots(free, **fields)


def test_slots_from_free_memory_on_a_gpu():
    room = int(24 * GB * 0.9) - RESERVE - EIGHT_B
    assert plan(24 * GB) == Plan(room // (8192 * KV), 8192)
    assert plan(24 * GB).slots == 16


def test_a_large_gpu_is_clamped_to_64_slots():
    assert plan(140 * GB) == Plan(64, 8192)


def test_a_cpu_is_clamped_to_8_and_keeps_half_for_the_rest():
    assert plan(1000 * GB, cpu=True) == Plan(8, 8192)
    assert plan(24 * GB, cpu=True).slots == (12 * GB - RESERVE - EIGHT_B) // (8192 * KV)


def test_one_slot_gets_what_memory_allows():
    """Room for less than one whole context: it is shorter."""
    tight = plan(7 * GB)
    assert tight.slots == 1
    assert tight.ctx_per_slot == (int(7 * GB * 0.9) - RESERVE - EIGHT_B) // KV
    assert 1024 <= tight.ctx_per_slot < 8192


def test_a_set_number_of_slots_is_kept_and_they_get_shorter():
    assert plan(24 * GB, max_concurrent=2) == Plan(2, 8192)
    many = plan(24 * GB, max_concurrent=32)
    assert many.slots == 32
    assert many.ctx_per_slot == (int(24 * GB * 0.9) - RESERVE - EIGHT_B) // KV // 32
    assert plan(8 * GB, max_concurrent=64).ctx_per_slot >= 1024
    assert plan(8 * GB, max_concurrent=64).slots < 64
    assert plan(140 * GB, max_concurrent=1000, cpu=True).slots <= 64


def test_a_cpu_takes_more_than_8_when_told():
    assert plan(1000 * GB, cpu=True, max_concurrent=32).slots == 32


@pytest.mark.parametrize(
    ("trained", "configured", "ctx"),
    [
        (131072, None, 8192),
        (2048, None, 2048),
        (131072, 32768, 32768),
        (4096, 32768, 4096),
        (0, None, 8192),
        (0, 512, 512),
    ],
)
def test_context_per_slot(trained, configured, ctx):
    assert wanted_ctx(trained, configured) == ctx
    assert plan(140 * GB, n_ctx_train=trained, context_length=configured).ctx_per_slot == ctx


@pytest.mark.parametrize("cpu", [True, False])
def test_a_model_that_does_not_fit_says_how_much_is_missing(cpu):
    with pytest.raises(WorkerError, match="the model needs 5248 MB") as caught:
        plan(4 * GB, cpu=cpu)
    assert caught.value.code == "out_of_memory"
    assert "4096 MB free" in caught.value.message


def test_a_model_without_attention_needs_no_kv():
    assert plan(140 * GB, kv_bytes_per_token=0) == Plan(64, 8192)


@given(
    free=st.integers(0, 200 * GB),
    model=st.integers(0, 100 * GB),
    kv=st.integers(0, MB),
    trained=st.integers(0, 200_000),
    most=st.none() | st.integers(1, 200),
    ctx=st.none() | st.integers(1, 200_000),
    cpu=st.booleans(),
)
def test_a_plan_always_fits(free, model, kv, trained, most, ctx, cpu):
    try:
        made = plan_slots(free, model, kv, trained, most, ctx, cpu=cpu)
    except WorkerError as exc:
        assert exc.code == "out_of_memory"  # noqa: PT017  # both outcomes are right
        return
    assert 1 <= made.slots <= (64 if most or not cpu else 8)
    assert most is None or made.slots <= most
    assert 1 <= made.ctx_per_slot <= wanted_ctx(trained, ctx)
    assert made.bytes_with(model, kv) <= usable(free, cpu=cpu)


def test_part_of_the_layers_on_the_gpu():
    whole = Demand(8 * GB, KV, 4096)
    assert whole.on_gpu(32, -1) == whole
    assert whole.on_gpu(32, 99) == whole
    assert whole.on_gpu(0, 8) == whole
    assert whole.on_gpu(32, 8) == Demand(2 * GB, KV // 4, 4096)


def test_models_in_memory_together_share_it():
    one = Demand(EIGHT_B, KV, 131072)
    both = together([one, one])
    assert both == Demand(2 * EIGHT_B, 2 * KV, 131072, 2 * RESERVE)
    assert most_slots([both], 24 * GB, None, cpu=False) < most_slots([one], 24 * GB, None, cpu=False)


def test_the_model_with_the_most_slots_counts():
    small, large = Demand(GB, KV, 8192), Demand(14 * GB, KV, 8192)
    alone = most_slots([small], 24 * GB, None, cpu=False)
    assert most_slots([small, large, Demand(90 * GB, KV)], 24 * GB, None, cpu=False) == alone


def test_nothing_to_plan_for():
    assert most_slots([], GB, None, cpu=True) == 8
    assert most_slots([Demand(90 * GB, KV)], GB, None, cpu=False) == 64


def test_slots_of_a_process(tmp_path, monkeypatch):
    write_tiny_llama(tmp_path / "a.gguf")
    write_tiny_llama(tmp_path / "b.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"junk")
    settings = load_settings(home=tmp_path, models_dir=tmp_path, preload=("a", "b"), worker_id="w", device="cpu0")
    monkeypatch.setattr(memory, "main_memory", lambda: 64 * GB)
    assert slots_from_memory(settings) == 8
    reserve = demand_of(Catalogue(tmp_path).find("a"), Options()).reserve
    monkeypatch.setattr(memory, "main_memory", lambda: 2 * (2 * reserve + 6 * MB))
    assert 1 <= slots_from_memory(settings) < 8


def test_slots_of_a_process_whose_model_says_how_many(tmp_path, monkeypatch):
    write_tiny_llama(tmp_path / "a.gguf")
    monkeypatch.setattr(memory, "main_memory", lambda: 64 * GB)
    options = {"a": {"slots": 24, "context_length": 256, "preload": True}}
    settings = load_settings(home=tmp_path, models_dir=tmp_path, worker_id="w", model_options=options)
    assert slots_from_memory(settings) == 24


def entry_of(folder):
    (found,) = Catalogue(folder).entries()
    return found


def test_what_a_model_asks_for_follows_its_options(tmp_path):
    write_tiny_llama(tmp_path / "a.gguf")
    entry = entry_of(tmp_path)
    plain = demand_of(entry, Options())
    assert plain.kv_bytes_per_token == 2 * 2 * 16 * 2 * 2  # layers, heads, width, keys and values, f16
    small = demand_of(entry, Options(kv_type=KvType.Q8_0, kv_type_v=KvType.Q8_0, slots=2, context_length=512))
    assert small.kv_bytes_per_token == plain.kv_bytes_per_token * 34 // 64
    assert (small.slots, small.ctx) == (2, 512)
    assert small.reserve < plain.reserve < 64 * MB
    assert demand_of(entry, Options(flash_attn=False)).reserve > plain.reserve
    assert demand_of(entry, Options(cpu=False)).reserve == RESERVE


def test_adapters_count(tmp_path):
    (tmp_path / "loras").mkdir()
    write_tiny_llama(tmp_path / "a.gguf")
    entry = entry_of(tmp_path)
    adapter = Adapter(write_tiny_lora(tmp_path / "loras" / "l.gguf"))
    more = demand_of(entry, Options(adapters=(adapter,))).model_bytes
    assert more == entry.size_bytes + adapter.path.stat().st_size


def test_a_recurrent_model_has_a_state_for_each_slot(tmp_path):
    write_tiny_mamba(tmp_path / "a.gguf")
    entry = entry_of(tmp_path)
    assert entry.info.state_bytes_per_slot == (3 * 128 + 16 * 128) * 4 * 2
    one, four = (demand_of(entry, Options(slots=slots)) for slots in (1, 4))
    assert one.kv_bytes_per_token == 0
    assert four.reserve - one.reserve >= 3 * entry.info.state_bytes_per_slot
