"""Checks that a part is ready; each answers soon (a second at worst) and never raises."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection

import httpx
import redis
from pydantic import BaseModel, ConfigDict, ValidationError

from ops import embedded_redis
from tasks import keys
from tasks.contract import WorkerInfo
from tasks.redis_client import connect
from worker.children import Run

_TIMEOUT_S = 1.0


class Health(BaseModel):
    """What `GET /healthz` of the control plane says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    workers: int = 0
    models: tuple[str, ...] = ()


def redis_ready(url: str, _run: Run | None = None) -> bool:
    return embedded_redis.answers(url)


def port_ready(host: str, port: int, _run: Run | None = None) -> bool:
    """Something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), _TIMEOUT_S):
        return True
    return False


def worker_ready(url: str, preload: Collection[str], worker_id: str, run: Run) -> bool:
    """This life of the worker (its heartbeat began after the process did) lives and has loaded what it should.

    One of the models to preload is enough: when they do not all fit, they take turns.
    """
    info = _heartbeat(url, worker_id)
    if info is None or info.started_at < run.started_at:
        return False
    return not preload or any(model.loaded for model in info.models if model.id in preload)


def health(api_url: str) -> Health | None:
    """The control plane's own word, None while it gives none."""
    try:
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
            return Health.model_validate_json(client.get(f"{api_url}/healthz").content)
    except (httpx.HTTPError, ValidationError):
        return None


def _heartbeat(url: str, worker_id: str) -> WorkerInfo | None:
    with contextlib.suppress(redis.RedisError, OSError, ValidationError), contextlib.closing(connect(url)) as client:
        row, lease = client.hget(keys.WORKERS, worker_id), client.get(keys.worker_lease(worker_id))
        if isinstance(row, bytes):
            info = WorkerInfo.model_validate_json(row)
            return info if lease == info.epoch.encode() else None
    return None


def bridge_ready(api_url: str, _run: Run | None = None) -> bool:
    """The control plane sees workers, which only a connected bridge can tell it of."""
    seen = health(api_url)
    return seen is not None and seen.workers > 0
