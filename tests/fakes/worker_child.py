"""A real worker process with a fake model in it: `python -m tests.fakes.worker_child`.

The job's body says what happens: `chunks` (how many), `hold` (run until cancelled), `hang` (never end, as after a
GPU fault), `raise` (fail with a secret). `PENDRA_PRELOAD` names the models it has in memory; `TEST_STALL_S` is the
watchdog's bound.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from tasks.contract import Job, ModelInfo, Usage
from tasks.errors import BadRequestError, JobCancelledError
from tasks.figures import LoadFigures
from tasks.settings import Settings
from worker.backends.base import CancelToken
from worker.engine.api import EngineStats
from worker.gpu_watch import check, named
from worker.process import Process, run, slots_of
from worker.publisher import Publisher
from worker.reply import JobReply
from worker.watchdog import STALL_S

SECRET = "xyzzy-the-patient"


class FakeRuntime:
    def __init__(self, settings: Settings, publisher: Publisher, changed: Callable[[], None]) -> None:
        self._publisher = publisher
        self._changed = changed
        self._loaded: set[str] = set()

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(ModelInfo(id=model, loaded=True) for model in sorted(self._loaded))

    def preload(self, models: tuple[str, ...]) -> None:
        self._loaded |= set(models)
        self._changed()

    def serve(self, job: Job, reply: JobReply, cancel: CancelToken) -> None:
        if job.body.get("load"):
            self.preload((job.body["load"],))
        if job.body.get("unload"):
            self._loaded.discard(job.body["unload"])
            self._changed()
        if job.body.get("raise"):
            raise RuntimeError(SECRET)
        if job.body.get("refuse"):
            raise BadRequestError("no", param="refuse")
        if job.body.get("hang"):
            threading.Event().wait()
        if job.body.get("hold"):
            reply.progress("prefill", 0.5)
            cancel.wait()
            raise JobCancelledError("cancelled")
        for n in range(job.body.get("chunks", 1)):
            self._publisher.step(lambda n=n: reply.chunk(f'{{"n": {n}, "echo": "{SECRET}"}}', (n,)))
        self._publisher.step(lambda: reply.finish(usage=Usage(completion_tokens=job.body.get("chunks", 1))))
        reply.wait()

    def stats(self) -> dict[str, EngineStats]:
        return {}

    def loads(self) -> tuple[LoadFigures, ...]:
        return ()

    def close(self) -> None:
        self._loaded.clear()


def build(settings: Settings, asked_slots: int | None) -> Process:
    def runtime(settings: Settings, slots: int, publisher: Publisher, changed: Callable[[], None]) -> FakeRuntime:
        return FakeRuntime(settings, publisher, changed)

    stall_s = float(os.environ.get("TEST_STALL_S", STALL_S))
    gpus = named(os.environ.get("CUDA_VISIBLE_DEVICES")) if settings.device.startswith("gpu") else ()
    check(gpus)
    return Process(settings, slots_of(settings, asked_slots), runtime, stall_s=stall_s, gpus=gpus)


def main() -> int:
    from tasks import app

    return run(app, build=build)


if __name__ == "__main__":
    sys.exit(main())
