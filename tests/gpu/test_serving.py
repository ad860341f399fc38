"""A worker pinned to one GPU computes on that one. Needs a CUDA build of llama-cpp-python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ops.node_state import live_workers
from tasks.redis_client import connect
from tests.acceptance.stack import MODEL, Stack, eventually, running
from worker import builds
from worker.builds import Build
from worker.nvml import Gpu

pytestmark = pytest.mark.skipif(
    not any(one.build is Build.CUDA for one in builds.devices()), reason="llama-cpp-python is no CUDA build"
)


def test_a_process_sees_the_gpu_it_is_pinned_to_and_no_other(gpus: tuple[Gpu, ...]) -> None:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": gpus[-1].uuid}
    argv = [sys.executable, "-m", "worker.builds_probe"]
    text = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=120).stdout
    assert [one.build for one in builds.parse(text)].count(Build.CUDA) == 1


def test_a_reply_from_the_gpu_with_its_figures_in_the_heartbeat(
    gpus: tuple[Gpu, ...], smollm2: Path, tmp_path: Path
) -> None:
    store = tmp_path / "models"
    store.mkdir()
    (store / smollm2.name).symlink_to(smollm2)
    (store / f"{smollm2.name}.meta.json").write_text(f'{{"id": "{MODEL}", "purpose": "chat"}}')
    with running(Stack(tmp_path / "home", store, args=("--workers", str(len(gpus)))), workers=len(gpus)) as stack:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 8}
        headers = {"x-api-key": stack.key}
        reply = httpx.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=120)
        assert reply.status_code == 200, reply.text
        with contextlib.closing(connect(stack.status_url())) as client:
            told = eventually(lambda: {one.uuid for info in live_workers(client).values() for one in info.gpu})
    assert told == {gpu.uuid for gpu in gpus}
