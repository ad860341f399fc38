"""What a worker says of itself: its models, its backends, how full it is."""

from __future__ import annotations

from enum import StrEnum

from tasks.contract.version import CONTRACT_VERSION
from tasks.figures import EngineFigures, GpuFigures, LoadFigures
from tasks.frozen import Frozen

BUILT_IN = "pendra"  # `ModelInfo.backend` of what our own engines serve


class ModelInfo(Frozen):
    """One model a worker can serve. `loaded`: in memory now.

    `features`: what it does besides its capability (`vision`, `tools`, `thinking`); None = nobody says.
    `fits`: the worker's memory is large enough for it when nothing else is there, as far as it knows.
    """

    id: str
    capability: str = "chat"
    backend: str = BUILT_IN
    context_length: int | None = None
    parameter_size: str | None = None
    quantisation: str | None = None
    family: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    loaded: bool = False
    features: tuple[str, ...] | None = None
    fits: bool = True

    @property
    def ready(self) -> bool:
        """It can take a job now: it is in memory, or the server that has it loads it by itself."""
        return self.loaded or self.backend != BUILT_IN


class BackendState(StrEnum):
    FOUND = "found"  # served
    HELD = "held"  # it answers, but came and went too often lately to be offered
    MISSING = "missing"
    OFF = "off"


class BackendReport(Frozen):
    """What a host's proxy worker knows of one kind of external server.

    `why`: what is wrong, in words for an operator ("" = nothing). `url`: where it is, or where it was configured.
    """

    product: str
    state: BackendState
    url: str = ""
    configured: bool = False
    version: str = ""
    latency_ms: float | None = None
    models: tuple[ModelInfo, ...] = ()
    why: str = ""


class WorkerInfo(Frozen):
    """A serving process's heartbeat: who it is, what it serves and how full it is.

    Written every second with a lease (`tasks.keys.WORKER_LEASE_S`); content-free, so unsealed. `epoch` is new at
    every start of the process: a lease with another epoch is another process. `fleet_keys`: ids of the fleet keys it
    has, the one that it seals with first.
    """

    v: int = CONTRACT_VERSION
    worker_id: str
    epoch: str
    name: str
    node: str
    role: str = "worker"
    pid: int
    version: str
    device: str
    slots_total: int
    slots_busy: int = 0
    models: tuple[ModelInfo, ...] = ()
    draining: bool = False
    started_at: float = 0.0
    log: str | None = None
    labels: tuple[str, ...] = ()
    kids: tuple[str, ...] = ()
    public_keys: tuple[str, ...] = ()
    backends: tuple[BackendReport, ...] = ()
    engines: tuple[EngineFigures, ...] = ()
    loads: tuple[LoadFigures, ...] = ()
    gpu: tuple[GpuFigures, ...] = ()
    fleet_keys: tuple[str, ...] = ()
