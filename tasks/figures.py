"""What a worker's heartbeat says for the people who watch: how full its engines are, its loads, its GPUs.

Content-free. Counters only grow while the process lives (an engine's: while its model stays in memory), as Prometheus
expects of a counter.
"""

from __future__ import annotations

from tasks.frozen import Frozen

LOADED = "ok"  # `LoadFigures.outcome` of a load that went well


class EngineFigures(Frozen):
    """One model in memory. `waiting`: requests inside the engine that have no slot yet; cells are tokens."""

    model: str
    slots_total: int = 0
    slots_busy: int = 0
    waiting: int = 0
    kv_cells_used: int = 0
    kv_cells_total: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class LoadFigures(Frozen):
    """Loads of one model since the process started that ended alike.

    `outcome`: `LOADED`, or the stable error code. `seconds`: what all of them took together.
    """

    model: str
    outcome: str = LOADED
    count: int = 0
    seconds: float = 0.0


class GpuFigures(Frozen):
    """One GPU of a worker, as its driver reports it. None: the device does not say.

    Bytes, °C, watts; `utilisation` is 0–1; `ecc_errors` those that could not be corrected since the driver's start.
    """

    uuid: str
    name: str = ""
    memory_used: int | None = None
    memory_total: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    utilisation: float | None = None
    ecc_errors: int | None = None
