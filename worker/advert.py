"""What a serving process says of itself: the `WorkerInfo` of its heartbeat."""

from __future__ import annotations

import os
import secrets
import time
from typing import Protocol

from tasks.contract import ModelInfo, WorkerInfo
from tasks.figures import GpuFigures, LoadFigures
from tasks.settings import Settings
from tasks.version import version
from worker.engine.api import EngineStats
from worker.figures import engine_figures
from worker.private.keys import Keyring


class Told(Protocol):
    """What is asked of `worker.runtime.Runtime`. Any thread; returns at once."""

    def models(self) -> tuple[ModelInfo, ...]: ...
    def stats(self) -> dict[str, EngineStats]: ...
    def loads(self) -> tuple[LoadFigures, ...]: ...


class Advert:
    """`info` from any thread. `epoch` is new with every process."""

    def __init__(self, settings: Settings, slots: int, keyring: Keyring) -> None:
        self.epoch = secrets.token_hex(8)
        self._settings = settings
        self._slots = slots
        self._keyring = keyring
        self._fleet_keys = tuple(key.id.hex() for key in settings.fleet_keys())
        self._started_at = time.time()

    def info(self, runtime: Told, *, busy: int, draining: bool, gpu: tuple[GpuFigures, ...]) -> WorkerInfo:
        """`busy`: slots in use. The workload keys are looked at anew: they may have been rotated."""
        settings, workload_keys = self._settings, self._keyring.live()
        return WorkerInfo(
            worker_id=settings.child_id,
            epoch=self.epoch,
            name=settings.worker_name,
            node=settings.worker_id,
            pid=os.getpid(),
            version=version(),
            device=settings.device,
            slots_total=self._slots,
            slots_busy=busy,
            models=runtime.models(),
            draining=draining,
            labels=settings.labels,
            started_at=self._started_at,
            log=str(settings.log_file) if settings.log_file else None,
            kids=tuple(key.kid for key in workload_keys),
            public_keys=tuple(key.public_base64 for key in workload_keys),
            engines=engine_figures(runtime.stats()),
            loads=runtime.loads(),
            gpu=gpu,
            fleet_keys=self._fleet_keys,
        )
