"""What we say a model will take, against what a process really takes: not much less, and not much more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.model_options import KvType
from worker.capacity import Plan, demand_of
from worker.options import Options
from worker.store.catalogue import Catalogue

ROOT = Path(__file__).resolve().parents[2]
MEASURE = """
import json, sys, psutil
from pathlib import Path
from worker.engine.config import EngineConfig, KvType
from worker.engine.model import LoadedModel
from worker.engine.runner import Runner

path, slots, ctx, kind, flash = json.loads(sys.argv[1])
process = psutil.Process()
before = process.memory_info().rss
model = LoadedModel(Path(path), n_gpu_layers=0)
config = EngineConfig(slots=slots, ctx_per_seq=ctx, kv_type=KvType(kind), flash_attn=flash)
runner = Runner(model, config)
runner.warm_up(1)
print(process.memory_info().rss - before)
"""


@pytest.mark.parametrize(
    ("slots", "ctx", "kind", "flash"),
    [(1, 2048, "f16", None), (4, 2048, "f16", None), (4, 2048, "f16", False), (8, 4096, "q8_0", True)],
)
def test_the_estimate_is_near_what_a_process_takes(smollm2, tmp_path, slots, ctx, kind, flash):
    (tmp_path / smollm2.name).symlink_to(smollm2)
    (entry,) = Catalogue(tmp_path).entries()
    kv = KvType(kind)
    options = Options(slots=slots, context_length=ctx, kv_type=kv, kv_type_v=kv, flash_attn=flash)
    estimate = demand_of(entry, options).under(Plan(slots, ctx))
    asked = json.dumps([str(smollm2), slots, ctx, kind, flash])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, asked], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    measured = int(done.stdout)
    assert 0.9 <= estimate / measured <= 1.3
