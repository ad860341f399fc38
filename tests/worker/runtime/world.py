"""A runtime whose models are fakes that load when the test says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from tasks.contract import Job, Progress, Usage
from tasks.errors import JobCancelledError
from tasks.settings import load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, Served, chat
from tests.fakes.waiting import until
from worker.backends.base import CancelToken, Reply
from worker.capacity import Plan
from worker.engine.api import EngineStats
from worker.options import Options
from worker.runtime import Runtime
from worker.store.catalogue import Entry

GB = 1024**3


class FakeModel:
    """Answers at once, or holds jobs until `release`."""

    def __init__(self, entry: Entry, plan: Plan) -> None:
        self.id = entry.id
        self.plan = plan
        self.context_length = plan.ctx_per_slot
        self.holding = False
        self.release = threading.Event()
        self.closed = 0

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None:
        if self.holding:
            assert self.release.wait(10)
        reply.finish(json.dumps({"by": self.id}), usage=Usage(completion_tokens=1))

    def stats(self) -> EngineStats:
        return EngineStats(self.plan.slots, 0, 0, 0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        self.closed += 1


class FakeOpener:
    """Loads when the test says so: every load waits for `gate`, which is open unless closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.opened: list[FakeModel] = []
        self.running = 0
        self.most_at_once = 0
        self.calls: list[str] = []
        self.options: dict[str, Options] = {}
        self.error: Exception | None = None

    def __call__(
        self, entry: Entry, plan: Plan, options: Options, publisher: object, progress: Callable
    ) -> FakeModel:
        self.options[entry.id] = options
        self.calls.append(entry.id)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            return self._open(entry, plan, progress)
        finally:
            self.running -= 1

    def _open(self, entry: Entry, plan: Plan, progress: Callable) -> FakeModel:
        while not self.gate.wait(0.002):
            if not progress(0.5):
                raise JobCancelledError("stopped")
        if self.error is not None:
            raise self.error
        self.opened.append(FakeModel(entry, plan))
        return self.opened[-1]


class World:
    """A runtime over a folder of models that load when the test says so; memory and the time are the test's, too."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = load_settings(home=folder, models_dir=folder, worker_id="w", device="cpu0", **settings)
        self.opener = FakeOpener()
        self.changes: list[tuple[str, ...]] = []
        self.free = 64 * GB
        self.free_now = lambda: self.free
        self.now = 1000.0
        self.runtime = Runtime(
            self.settings,
            4,
            DirectPublisher(),
            self._changed,
            opener=self.opener,
            free=lambda _options: self.free_now(),
            clock=lambda: self.now,
        )

    def _changed(self) -> None:
        self.changes.append(self.runtime.loaded())

    def begin(
        self, model: str = "a", cancel: CancelToken | None = None, **fields: object
    ) -> tuple[RecordingReply, Served]:
        job = chat(model=model, stream=False, **fields)
        reply = RecordingReply(job)
        return reply, Served(lambda: self.runtime.serve(job, reply, cancel or CancelToken()))

    def hold(self, model: str = "a") -> tuple[FakeModel, Served]:
        """The first model that was opened is in use until `release` of what is returned is set."""
        self.serve(model)
        busy = self.opener.opened[0]
        busy.holding = True
        _, held = self.begin(model)
        until(lambda: self.runtime._residents.snapshot()[0].busy)
        return busy, held

    def serve(self, model: str = "a", **fields: object) -> RecordingReply:
        reply, served = self.begin(model, **fields)
        error = served.done()
        if error is not None:
            raise error
        return reply


def loading(reply: RecordingReply) -> list[float]:
    return [event.fraction for event in reply.events if isinstance(event, Progress) and event.stage == "loading"]
