"""The proxy worker's process: what it says of itself, and what it must not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.sealing import FleetKey
from tasks.settings import load_settings
from worker.backends.external import registry
from worker.proxy import SLOTS, build

ROOT = Path(__file__).resolve().parents[2]
OFF = {f"{name}_endpoint": "off" for name in ("ollama", "vllm", "lmstudio", "speaches")}


@pytest.mark.parametrize(("asked", "limit", "slots"), [(None, None, SLOTS), (None, 4, 4), (2, 4, 2)])
def test_what_it_says_of_itself(tmp_path, redis_url, asked, limit, slots):
    settings = load_settings(
        home=tmp_path,
        worker_id="wrk-1",
        device="proxy",
        redis_url=redis_url,
        fleet_key=FleetKey.generate().to_base64(),
        max_concurrent=limit,
        **OFF,
    )
    process = build(settings, asked)
    try:
        info = process.info()
    finally:
        process.runtime.close()
    assert (info.worker_id, info.role, info.node, info.slots_total) == ("wrk-1-proxy", "proxy", "wrk-1", slots)
    assert [row.product for row in info.backends] == [str(product.name) for product in registry.products()]
    assert {row.state for row in info.backends} == {"off"}


def test_it_loads_no_engine():
    code = (
        "import sys, worker.proxy; from worker.backends.external import registry; registry.products();"
        "print(sorted({'llama_cpp', 'pynvml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
