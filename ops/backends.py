"""The external servers of this host and of the fleet, for `pendra backends`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

import redis
from pydantic import BaseModel, ConfigDict

from ops.node_state import live_workers, mask, read_state
from tasks.contract import BackendReport, WorkerInfo
from tasks.redis_client import connect
from tasks.settings import Settings
from worker.backends.external.discovery import Discovery, endpoints_of
from worker.backends.external.product import Product
from worker.backends.external.registry import products
from worker.proxy_runtime import make_client

ASKED_HERE = "this command"


class NodeBackends(BaseModel):
    """What one host reaches. `told_by`: its proxy worker, or this command, which asked by itself just now."""

    model_config = ConfigDict(frozen=True)

    node: str
    told_by: str
    backends: tuple[BackendReport, ...]


def everywhere(settings: Settings) -> tuple[tuple[NodeBackends, ...], str]:
    """Every host's report, and what could not be found out ("" = nothing).

    Where no proxy worker of this host runs, we look ourselves. Blocks for some seconds; never raises for what is not
    there.
    """
    state = read_state(settings.home)
    url = state.redis_url if state else settings.redis_url
    try:
        with contextlib.closing(connect(url)) as client:
            workers, note = tuple(live_workers(client).values()), ""
    except (redis.RedisError, OSError):
        workers, note = (), f"Redis at {mask(url)} does not answer: other hosts are unknown" if state else ""
    told = reported(workers)
    here = () if settings.worker_id in {row.node for row in told} else (looked(settings),)
    return (*here, *told), note


def reported(workers: Iterable[WorkerInfo]) -> tuple[NodeBackends, ...]:
    """What proxy workers say of their hosts, by host. Pure."""
    proxies = sorted((info for info in workers if info.backends), key=lambda info: info.node)
    return tuple(NodeBackends(node=info.node, told_by=info.worker_id, backends=info.backends) for info in proxies)


def looked(settings: Settings, known: Sequence[Product] | None = None) -> NodeBackends:
    """One look from this host. Blocks for some seconds."""
    found = asyncio.run(_look(settings, products() if known is None else known))
    return NodeBackends(node=settings.worker_id, told_by=ASKED_HERE, backends=found)


async def _look(settings: Settings, known: Sequence[Product]) -> tuple[BackendReport, ...]:
    discovery = Discovery(known, endpoints_of(settings), settings.backend_order)
    async with make_client(settings) as http:
        await discovery.tick(http)
    return discovery.reports()
