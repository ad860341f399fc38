"""Turns the options of `pendra up` and `pendra worker` into specs: takes keys and ports, probes devices."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bridge.identity import Identity, generate_seed
from ops import embedded_redis, probes, stack
from ops.local_keys import kept
from ops.node_state import NodeState
from ops.stack import Node, Serving
from tasks import fleet_key_file
from tasks.errors import PendraError
from tasks.settings import Settings
from worker import devices, vram
from worker.backends.external.discovery import all_off
from worker.children import ChildSpec
from worker.private import keys as workload_keys

BRIDGE_KEY_FILE = "bridge-key"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # listened on → what this machine dials


class PortTakenError(PendraError):
    default_code = "port_taken"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the local API listens, and how this machine dials it."""

    host: str
    port: int

    @property
    def dialled(self) -> str:
        return _ANY.get(self.host, self.host)

    @property
    def url(self) -> str:
        return f"http://{self._place}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self._place}"

    @property
    def _place(self) -> str:
        return f"[{self.dialled}]:{self.port}" if ":" in self.dialled else f"{self.dialled}:{self.port}"


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything the supervisor and the narrator need. `models` were asked for; `workers` is how many will serve."""

    home: Path
    specs: tuple[ChildSpec, ...]
    state: NodeState = field(repr=False)
    workers: int
    models: tuple[str, ...] = ()
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    scratch: Path | None = None  # a folder outside the home, to be removed at the end


def whole_stack(
    settings: Settings, address: Address, serving: Serving, *, workers: int | None, own_redis: bool = True
) -> Launch:
    """`pendra up`. Call it while the home is locked: it makes the keys a first start needs."""
    from ops.controlplane import ensure_api_key, register_worker

    if settings.fleet_key is None:
        fleet_key_file.ensure(settings.fleet_key_path)
    workload_keys.ensure(settings.workload_key_file)
    settings.fleet_keys()  # a bad key is told here, not in five logs
    shares = _devices(settings, workers)
    server = embedded_redis.prepare(settings.home) if own_redis else None
    node = node_of(settings, server.url if server else settings.redis_url)
    seed = kept(settings.home / BRIDGE_KEY_FILE, generate_seed)
    register_worker(settings.home, Identity.from_base64(seed).public_key, settings.worker_name)
    parts: list[ChildSpec] = []
    if server:
        parts.append(stack.redis_spec(node, server, partial(probes.redis_ready, server.url)))
    ready = partial(probes.port_ready, address.dialled, address.port)
    parts.append(stack.controlplane_spec(node, address.host, address.port, ready))
    needs = (stack.REDIS,) if server else ()
    parts += stack.worker_specs(node, shares, serving, needs, partial(_worker_ready, node, serving))
    parts.append(stack.agent_spec(node, needs))
    parts += _proxies(settings, node, needs)
    # last here is first to stop: the bridge lets open jobs end while everything they need still runs
    needs = (*needs, stack.CONTROLPLANE)
    parts.append(stack.bridge_spec(node, address.ws_url, seed, needs, partial(probes.bridge_ready, address.url)))
    return Launch(
        home=settings.home,
        specs=tuple(parts),
        state=NodeState(node=node.worker_id, redis_url=node.redis_url, api_url=address.url),
        workers=len(shares),
        models=serving.models,
        url=address.url,
        api_key=ensure_api_key(settings.home),
        scratch=server.scratch(settings.home) if server else None,
    )


def workers_only(settings: Settings, serving: Serving, *, workers: int | None) -> Launch:
    """`pendra worker`: the device children of a fleet host, with the Redis and the key of its fleet."""
    settings.fleet_keys()
    node = node_of(settings, settings.redis_url)
    shares = _devices(settings, workers)
    specs = stack.worker_specs(node, shares, serving, (), partial(_worker_ready, node, serving))
    specs = (*specs, stack.agent_spec(node, ()), *_proxies(settings, node, ()))
    state = NodeState(node=node.worker_id, redis_url=node.redis_url)
    return Launch(home=settings.home, specs=specs, state=state, workers=len(shares), models=serving.models)


def _devices(settings: Settings, workers: int | None) -> tuple[devices.Device, ...]:
    """What this host serves on. Who holds memory of its GPUs already is told in the log."""
    host = devices.probe()
    vram.tell(vram.held(host.gpus) if host.gpus else ())
    return devices.plan(host, workers, settings.gpu_groups)


def _proxies(settings: Settings, node: Node, needs: tuple[str, ...]) -> tuple[ChildSpec, ...]:
    """The host's proxy worker, unless every kind of external server is switched off."""
    return () if all_off(settings) else (stack.proxy_spec(node, needs),)


def _worker_ready(node: Node, serving: Serving, worker_id: str) -> stack.Ready:
    return partial(probes.worker_ready, node.redis_url, serving.models, worker_id)


def free_address(host: str, port: int) -> Address:
    """The address, if nothing listens there; port 0 takes a free one. Raises PortTakenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise PortTakenError(
                f"cannot listen on {host} port {port}: {exc.strerror or exc}; stop what uses it, or choose another "
                "with --port (0 = any free one)"
            ) from exc
        return Address(host, int(probe.getsockname()[1]))


def node_of(settings: Settings, redis_url: str) -> Node:
    return Node(settings.home, settings.worker_id, redis_url, settings.models_dir, settings.grace_seconds)
