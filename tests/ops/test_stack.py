"""The parts of `pendra up`: who gets which secret, who needs whom, what a device's process is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops import stack
from ops.embedded_redis import EmbeddedRedis
from ops.stack import Node, Serving
from worker.children import ChildSpec, Run
from worker.devices import Gpu, Host, plan

NODE = Node(Path("/home/p"), "wrk-1", "unix:///home/p/run/redis.sock", Path("/models"), grace_s=7)
CPU = plan(Host(cpus=(0, 1)), workers=2)
GPU = plan(Host(cpus=(0, 1), gpus=(Gpu(0, "GPU-aaaa", "NVIDIA H200"),)))


def yes(_run: Run) -> bool:
    return True


def all_specs(serving: Serving = Serving()) -> list[ChildSpec]:  # noqa: B008  # frozen
    return [
        stack.redis_spec(NODE, EmbeddedRedis("/bin/valkey", Path("/home/p/run/redis.sock")), yes),
        stack.controlplane_spec(NODE, "127.0.0.1", 8080, yes),
        stack.bridge_spec(NODE, "ws://127.0.0.1:8080", "SEED", ("redis", "controlplane"), yes),
        *stack.worker_specs(NODE, CPU, serving, ("redis",), lambda _worker_id: yes),
        stack.agent_spec(NODE, ("redis",)),
        stack.proxy_spec(NODE, ("redis",)),
    ]


def test_roles_names_and_logs() -> None:
    specs = all_specs()
    assert [spec.role for spec in specs] == ["redis", "controlplane", "bridge", "worker", "worker", "agent", "proxy"]
    logs = ["worker-cpu0.log", "worker-cpu1.log", "agent.log", "proxy.log"]
    assert [spec.log_path.name for spec in specs][-4:] == logs
    ids = [None, None, None, "wrk-1-cpu0", "wrk-1-cpu1", None, "wrk-1-proxy"]
    assert [spec.worker_id for spec in specs] == ids
    assert len({spec.name for spec in specs}) == len(specs)


def test_no_secret_is_an_argument_or_shown() -> None:
    for spec in all_specs():
        assert "SEED" not in " ".join(spec.argv)
        assert "SEED" not in repr(spec)
    assert "redis.sock" not in repr(NODE)


def test_each_part_holds_only_the_secrets_it_needs() -> None:
    for spec in all_specs():
        has_private_key = "GPU_WORKER_PRIVATE_KEY" in spec.env
        assert has_private_key == (spec.role == "bridge")
        assert has_private_key != ("GPU_WORKER_PRIVATE_KEY" in spec.drop_env)
        assert ("GPU_WORKER_PRIVATE_KEY" in spec.drop_env) == ("GPU_WORKER_PRIVATE_KEY_FILE" in spec.drop_env)
        assert ("PENDRA_FLEET_KEY" in spec.drop_env) == ("PENDRA_FLEET_KEY_FILE" in spec.drop_env)
        assert ("PENDRA_FLEET_KEY" in spec.drop_env) == (spec.role not in {"bridge", "worker", "proxy"})


def test_order() -> None:
    needs = {spec.name: spec.needs for spec in all_specs()}
    assert needs["bridge"] == ("redis", "controlplane")
    assert needs["worker-cpu0"] == ("redis",)
    assert needs["controlplane"] == ()


def test_a_cpu_child_is_told_its_share() -> None:
    child = all_specs(Serving(slots=4, models=("a:1b", "b:2b")))[-3]
    assert child.cpus == (1,)
    assert child.env["PENDRA_CHILD_ID"] == "wrk-1-cpu1"
    assert child.env["PENDRA_DEVICE"] == "cpu1"
    assert child.env["PENDRA_THREADS"] == "1"
    assert child.env["MAX_CONCURRENT"] == "4"
    assert json.loads(child.env["PENDRA_PRELOAD"]) == ["a:1b", "b:2b"]
    assert child.env["PENDRA_REDIS_URL"] == "unix:///home/p/run/redis.sock"
    assert "CUDA_VISIBLE_DEVICES" not in child.env
    assert child.grace_s == NODE.grace_s


def test_a_gpu_child_sees_its_gpu_only() -> None:
    (child,) = stack.worker_specs(NODE, GPU, Serving(), (), lambda _worker_id: yes)
    assert child.env["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"
    assert child.env["PENDRA_DEVICE"] == "gpu0"
    assert (child.worker_id, child.device, child.cpus) == ("wrk-1-gpu0", "gpu0", ())


def test_what_is_not_asked_for_is_left_to_the_settings() -> None:
    child = all_specs()[-3]
    assert "MAX_CONCURRENT" not in child.env
    assert "PENDRA_PRELOAD" not in child.env


def test_the_proxy_sees_no_gpu_and_serves_under_its_own_id() -> None:
    proxy = all_specs()[-1]
    assert (proxy.env["PENDRA_CHILD_ID"], proxy.env["CUDA_VISIBLE_DEVICES"]) == ("wrk-1-proxy", "")
    assert "MAX_CONCURRENT" not in proxy.env


@pytest.mark.parametrize("word", ["--save", "--appendonly", "--unixsocketperm"])
def test_redis_is_told_to_keep_nothing(word: str) -> None:
    assert word in all_specs()[0].argv
