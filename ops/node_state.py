"""What runs on this node: the state file a supervisor keeps, and `pendra status` made of it and the heartbeats.

The file `<home>/run/state.json` (0600, it may hold a Redis password) lists the parts; models and slots of a worker
come from its heartbeat in Redis, while its lease lives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.home_lock import holder
from tasks import keys
from tasks.contract import WorkerInfo
from worker.children import Change, ChildSpec, State


class Part(BaseModel):
    """One supervised process. `pid` None: it is not running now."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    name: str
    role: str
    state: State = State.WAITING
    pid: int | None = None
    worker_id: str | None = None
    device: str | None = None
    log: str | None = None


class NodeState(BaseModel):
    """What the supervisor knows: itself and its parts."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    node: str
    redis_url: str = Field(repr=False)  # may hold a password
    api_url: str | None = None
    parts: tuple[Part, ...] = ()


class Process(BaseModel):
    """One row of `pendra status`. Models and slots are None or empty for what serves none. `node` None: this one."""

    role: str
    node: str | None = None
    pid: int | None
    worker_id: str | None = None
    device: str | None = None
    models: tuple[str, ...] = ()
    slots_busy: int | None = None
    slots_total: int | None = None
    log: str | None = None


class Status(BaseModel):
    """What `pendra status --json` prints. The Redis password is masked."""

    node: str
    redis_url: str
    api_url: str | None
    processes: tuple[Process, ...]


class StateFile:
    """Follows a supervisor's changes and rewrites the file at each (atomically, mode 0600)."""

    def __init__(self, home: Path, state: NodeState, specs: tuple[ChildSpec, ...]) -> None:
        self._path = state_path(home)
        self._state = state
        self._parts = {spec.name: part_of(spec) for spec in specs}
        self._write()

    def apply(self, change: Change) -> None:
        running = change.state in {State.STARTING, State.READY, State.STOPPING}
        pid = change.pid if running else None
        part = part_of(change.spec).model_copy(update={"state": change.state, "pid": pid})
        self._parts[change.spec.name] = part
        self._write()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        state = self._state.model_copy(update={"parts": tuple(self._parts.values())})
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(state.model_dump_json(indent=1))
        draft.replace(self._path)


def state_path(home: Path) -> Path:
    return home / "run" / "state.json"


def part_of(spec: ChildSpec) -> Part:
    return Part(name=spec.name, role=spec.role, worker_id=spec.worker_id, device=spec.device, log=str(spec.log_path))


def read_state(home: Path) -> NodeState | None:
    """The running supervisor's state; None when none runs (a file left by a killed one does not count)."""
    if holder(home) is None:
        return None
    try:
        return NodeState.model_validate_json(state_path(home).read_bytes())
    except (OSError, ValidationError):
        return None


def live_workers(client: redis.Redis) -> dict[str, WorkerInfo]:
    """Every worker of the fleet whose lease lives. Two round trips; raises redis.RedisError."""
    rows: Mapping[bytes, bytes] = client.hgetall(keys.WORKERS)  # type: ignore[assignment]  # redis-py types sync and async as one
    infos = [info for row in rows.values() if (info := _worker_info(row))]
    if not infos:
        return {}
    leases = client.mget([keys.worker_lease(info.worker_id) for info in infos])
    epochs = zip(infos, leases, strict=True)
    return {info.worker_id: info for info, epoch in epochs if epoch == info.epoch.encode()}


def assemble(state: NodeState | None, workers: Mapping[str, WorkerInfo], node: str, redis_url: str) -> Status:
    """Parts first, each with its heartbeat; then the fleet's other live workers, this node's first. Pure."""
    parts = state.parts if state else ()
    ours = {part.worker_id for part in parts}
    rows = [_row_of_part(part, workers.get(part.worker_id or "")) for part in parts]
    here = state.node if state else node
    others = [info for info in workers.values() if info.worker_id not in ours]
    rows += [_row_of_worker(info, here) for info in sorted(others, key=lambda one: (one.node != here, one.worker_id))]
    return Status(
        node=here,
        redis_url=mask(state.redis_url if state else redis_url),
        api_url=state.api_url if state else None,
        processes=tuple(rows),
    )


def mask(url: str) -> str:
    """The URL without its password, be it before the host or (redis-py takes that too) in the query."""
    parts = urlsplit(url)
    query = re.sub(r"(?<![^&])(password=)[^&]*", r"\1***", parts.query)
    place = parts.netloc
    if parts.password is not None:
        place = place.replace(f":{parts.password}@", ":***@", 1)
    return urlunsplit((parts.scheme, place, parts.path, query, parts.fragment)) if place or query else url


def _row_of_part(part: Part, info: WorkerInfo | None) -> Process:
    row = Process(role=part.role, pid=part.pid, worker_id=part.worker_id, device=part.device, log=part.log)
    if info is None or part.pid is None:
        return row
    served = {"models": tuple(model.id for model in info.models), "device": info.device}
    return row.model_copy(update=served | {"slots_busy": info.slots_busy, "slots_total": info.slots_total})


def _row_of_worker(info: WorkerInfo, here: str) -> Process:
    return Process(
        role=info.role,
        node=None if info.node == here else info.node,
        pid=info.pid,
        worker_id=info.worker_id,
        device=info.device,
        models=tuple(model.id for model in info.models),
        slots_busy=info.slots_busy,
        slots_total=info.slots_total,
        log=info.log,
    )


def _worker_info(row: bytes) -> WorkerInfo | None:
    try:
        return WorkerInfo.model_validate_json(row)
    except ValidationError:
        return None  # another version's row; `pendra status` shows what it understands
