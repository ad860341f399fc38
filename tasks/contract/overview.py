"""What a bridge says of itself, for people."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.frozen import Frozen


class JobRow(Frozen):
    """One open job as people see it: nothing of its content. Times in seconds, `tokens` delivered so far."""

    job_id: str
    model: str
    state: str
    attempt: int = 0
    worker_id: str = ""
    age_s: float = 0.0
    tokens: int = 0


class Overview(Frozen):
    """What a bridge has open, the oldest first; `total` may be more than the rows that are listed.

    `fleet_keys` as in `WorkerInfo`. `waiting`: jobs that no worker has a slot for. `pace`: tokens a second
    that each worker makes, by worker id, as `bridge.pace` counts them.
    """

    bridge_id: str
    total: int
    rows: tuple[JobRow, ...] = ()
    waiting: int = 0
    pace: Mapping[str, float] = {}
    version: str = ""
    fleet_keys: tuple[str, ...] = ()
