"""`pendra drain`: take one worker out of service without losing a request."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import redis

    from tasks.contract import WorkerInfo

_LOOK_S = 0.1
_SLACK_S = 15.0  # beyond the grace: hand-over, goodbye, process end


@click.command("drain")
@click.argument("worker_id")
@click.option("--stay", is_flag=True, help="Keep the process: it serves nothing until it is restarted.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, worker_id: str, stay: bool, home: Path | None) -> None:
    """Take no new requests on WORKER_ID and let the running ones end.

    What still runs at the grace limit (PENDRA_GRACE_SECONDS) goes on on another worker, in the same reply. Then the
    process ends; what supervises it (`pendra up`, `pendra worker`, a container's restart policy) starts it anew.
    """
    from ops.node_state import read_state
    from tasks.redis_client import connect
    from tasks.settings import load_settings

    settings = load_settings(home=home)
    state = read_state(settings.home)
    with contextlib.closing(connect(state.redis_url if state else settings.redis_url)) as client:
        info = _ask(client, worker_id, stay=stay)
        click.echo(f"{worker_id} takes nothing new; {info.slots_busy} of {info.slots_total} slots are busy")
        _wait(client, info, stay=stay, timeout_s=settings.grace_seconds + _SLACK_S)
    click.echo(f"{worker_id} is {'idle and out of service' if stay else 'drained and ended'}")


def _ask(client: redis.Redis, worker_id: str, *, stay: bool) -> WorkerInfo:
    """Tell the worker. Raises PendraError when it does not hear."""
    from ops.node_state import live_workers
    from tasks import keys
    from tasks.errors import NotFoundError, UnavailableError

    workers = live_workers(client)
    if worker_id not in workers:
        there = ", ".join(sorted(workers)) or "none"
        raise NotFoundError(f"no live worker is called '{worker_id}'; there are: {there}", code="worker_not_found")
    if not client.publish(keys.control(worker_id), json.dumps({"op": "drain" if stay else "leave"})):
        raise UnavailableError(f"the worker '{worker_id}' does not listen now; try again in some seconds")
    return workers[worker_id]


def _wait(client: redis.Redis, asked: WorkerInfo, *, stay: bool, timeout_s: float) -> None:
    """Until it is idle (`stay`) or gone. Raises WorkerError when that takes too long."""
    from ops.node_state import live_workers
    from tasks.errors import WorkerError

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        info = live_workers(client).get(asked.worker_id)
        gone = info is None or info.epoch != asked.epoch
        if gone or (stay and info is not None and info.draining and not info.slots_busy):
            return
        time.sleep(_LOOK_S)
    raise WorkerError(f"the worker '{asked.worker_id}' is not drained after {timeout_s:.0f} s; its log says why")
