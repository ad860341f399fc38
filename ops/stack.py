"""The processes of one machine, as specs for the supervisor. Pure: nothing is probed, opened or started here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ops.embedded_redis import EmbeddedRedis
from tasks import settings_sources
from worker.children import ChildSpec, Run
from worker.devices import Device

REDIS = "redis"
CONTROLPLANE = "controlplane"
BRIDGE = "bridge"
WORKER = "worker"
AGENT = "agent"
PROXY = "proxy"
PRIVATE_KEY = "GPU_WORKER_PRIVATE_KEY"
BACKEND_KEYS = tuple(name.upper() for name in settings_sources.BACKEND_KEYS)
FLEET_KEY = "PENDRA_FLEET_KEY"
_NOBODYS = (PRIVATE_KEY, f"{PRIVATE_KEY}_FILE")  # but the bridge's
_FLEET_KEYS = (FLEET_KEY, f"{FLEET_KEY}_FILE")
_GOODBYE_S = 3.0  # a bridge gives its jobs `grace_s` to end, then tells the API of those that did not

Ready = Callable[[Run], bool]


@dataclass(frozen=True, slots=True)
class Node:
    """What all parts of this machine share. `worker_id` is the host's; the fleet key lies in `home`."""

    home: Path
    worker_id: str
    redis_url: str = field(repr=False)  # may hold a password
    models_dir: Path
    grace_s: float = 10.0

    def env(self, part: str) -> dict[str, str]:
        return {
            "PENDRA_HOME": str(self.home),
            "PENDRA_LOG_FILE": str(self.log(part)),
            "PENDRA_MODELS_DIR": str(self.models_dir),
            "PENDRA_REDIS_URL": self.redis_url,
            "WORKER_ID": self.worker_id,
        }

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"


@dataclass(frozen=True, slots=True)
class Serving:
    """How the worker processes serve: `slots` None = from free memory; `models` are loaded at once."""

    slots: int | None = None
    models: tuple[str, ...] = ()


def redis_spec(node: Node, server: EmbeddedRedis, ready: Ready) -> ChildSpec:
    return ChildSpec(
        name=REDIS,
        role=REDIS,
        argv=server.argv,
        log_path=node.log(REDIS),
        drop_env=(*_NOBODYS, *_FLEET_KEYS, *BACKEND_KEYS),
        ready=ready,
        grace_s=5.0,
    )


def controlplane_spec(node: Node, host: str, port: int, ready: Ready) -> ChildSpec:
    return ChildSpec(
        name=CONTROLPLANE,
        role=CONTROLPLANE,
        argv=_pendra("controlplane", "--host", host, "--port", str(port)),
        log_path=node.log(CONTROLPLANE),
        env={"PENDRA_HOME": str(node.home), "PENDRA_LOG_FILE": str(node.log(CONTROLPLANE))},
        drop_env=(*_NOBODYS, *_FLEET_KEYS, *BACKEND_KEYS),
        ready=ready,
    )


def bridge_spec(node: Node, api_ws_url: str, private_key: str, needs: tuple[str, ...], ready: Ready) -> ChildSpec:
    return ChildSpec(
        name=BRIDGE,
        role=BRIDGE,
        argv=_module("bridge.main"),
        log_path=node.log(BRIDGE),
        drop_env=BACKEND_KEYS,
        env=node.env(BRIDGE) | {"APP_SERVER_WS_URL": api_ws_url, PRIVATE_KEY: private_key},
        needs=needs,
        ready=ready,
        grace_s=node.grace_s + _GOODBYE_S,
    )


def agent_spec(node: Node, needs: tuple[str, ...]) -> ChildSpec:
    """The host's installer agent. It is not waited for: installs queue up until it is there."""
    return ChildSpec(
        name=AGENT,
        role=AGENT,
        argv=_module("worker.installer_agent"),
        log_path=node.log(AGENT),
        env=node.env(AGENT),
        drop_env=(*_NOBODYS, *_FLEET_KEYS),
        needs=needs,
        grace_s=node.grace_s,
    )


def proxy_spec(node: Node, needs: tuple[str, ...]) -> ChildSpec:
    """The host's proxy worker. It is not waited for: what it finds is offered when it is there."""
    worker_id = f"{node.worker_id}-{PROXY}"
    return ChildSpec(
        name=PROXY,
        role=PROXY,
        argv=_module("worker.proxy"),
        log_path=node.log(PROXY),
        env=node.env(PROXY) | {"PENDRA_CHILD_ID": worker_id, "PENDRA_DEVICE": PROXY, "CUDA_VISIBLE_DEVICES": ""},
        drop_env=_NOBODYS,
        needs=needs,
        grace_s=node.grace_s,
        worker_id=worker_id,
        device=PROXY,
    )


def worker_specs(
    node: Node, devices: tuple[Device, ...], serving: Serving, needs: tuple[str, ...], ready: Callable[[str], Ready]
) -> tuple[ChildSpec, ...]:
    """One child per device; `ready` makes the check for a worker id."""
    return tuple(_worker_spec(node, device, serving, needs, ready) for device in devices)


def _worker_spec(
    node: Node, device: Device, serving: Serving, needs: tuple[str, ...], ready: Callable[[str], Ready]
) -> ChildSpec:
    worker_id = f"{node.worker_id}-{device.label}"
    name = f"{WORKER}-{device.label}"
    return ChildSpec(
        name=name,
        role=WORKER,
        argv=_module("worker.process"),
        log_path=node.log(name),
        env=node.env(name) | _worker_env(worker_id, device, serving),
        drop_env=(*_NOBODYS, *BACKEND_KEYS),
        cpus=device.cpus,
        needs=needs,
        ready=ready(worker_id),
        grace_s=node.grace_s,
        worker_id=worker_id,
        device=device.label,
    )


def _worker_env(worker_id: str, device: Device, serving: Serving) -> dict[str, str]:
    env = {
        "PENDRA_CHILD_ID": worker_id,
        "PENDRA_DEVICE": device.label,
        "PENDRA_THREADS": str(device.threads),
    }
    env |= dict(device.env)
    if serving.slots is not None:
        env["MAX_CONCURRENT"] = str(serving.slots)
    if serving.models:
        env["PENDRA_PRELOAD"] = json.dumps(serving.models)
    return env


def _module(name: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *args)


def _pendra(*args: str) -> tuple[str, ...]:
    return _module("ops.cli", *args)
