"""Drives real worker processes the way a bridge does, for the worker's integration tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tasks import keys
from tasks.celery_app import make_app
from tasks.celery_config import ARGSREPR, INFER
from tasks.contract import Event, Job, WorkerInfo
from tasks.events import open_event, unpack
from tasks.redis_client import connect, connect_async
from tasks.scripts import BridgeScripts, Placement
from tasks.sealing import FleetKey, Opener, Sealer, payload_aad
from tests.fakes.waiting import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]
BRIDGE = "b1"
MODEL = "fake:1b"


class Fleet:
    """One Redis, and what a bridge would do with it."""

    def __init__(self, url: str, home: Path, model: str = MODEL, **env: str) -> None:
        self.url = url
        self.home = home
        self.model = model
        self._env = env
        self.key = FleetKey.generate()
        self.client = connect(url)
        self.app = make_app(url)
        self._sealer = Sealer(self.key)
        self._opener = Opener(self.key)

    def inspected(self, what: str) -> dict[str, Any]:
        """`celery inspect`, asked again where a Redis restart had closed the connection."""
        try:
            return getattr(self.app.control.inspect(timeout=2), what)() or {}
        except redis.ConnectionError:
            return getattr(self.app.control.inspect(timeout=2), what)() or {}

    def close(self) -> None:
        self.app.close()
        self.client.close()

    # ------------------------------------------------------------------ workers

    def env(self, child_id: str, slots: int) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENDRA_")}
        return (
            ours
            | self._env
            | {
                "PENDRA_HOME": str(self.home),
                "PENDRA_REDIS_URL": self.url,
                "PENDRA_FLEET_KEY": self.key.to_base64(),
                "PENDRA_CHILD_ID": child_id,
                "PENDRA_PRELOAD": self.model,
                "PENDRA_LOG_FILE": str(self.log(child_id)),
                "WORKER_ID": "wrk-test",
                "MAX_CONCURRENT": str(slots),
            }
        )

    def log(self, child_id: str) -> Path:
        return self.home / f"{child_id}.log"

    @contextmanager
    def worker(self, child_id: str = "w1", slots: int = 1, argv: tuple[str, ...] = ()) -> Iterator[subprocess.Popen]:
        """A worker process with the fake model, ready to take jobs."""
        command = argv or (sys.executable, "-m", "tests.fakes.worker_child")
        with (self.home / f"{child_id}.out").open("wb") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.env(child_id, slots), stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        try:
            self.await_model(child_id)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def await_model(self, child_id: str, model: str | None = None) -> None:
        """Until the worker is listed with the model in memory and listens to its queue."""
        model = model or self.model

        def listening() -> bool:
            info = self.info(child_id)
            ready = info is not None and any(one.id == model and one.loaded for one in info.models)
            return ready and f'"model.{model}"' in self.log(child_id).read_text()

        until(listening, every_s=0.02)

    def info(self, child_id: str) -> WorkerInfo | None:
        text = self.client.hget(keys.WORKERS, child_id)
        alive = self.client.exists(keys.worker_lease(child_id))
        return WorkerInfo.model_validate_json(text) if text and alive else None

    # --------------------------------------------------------------------- jobs

    def submit(
        self, job_id: str, worker: str = "w1", *, queue: str | None = None, slots: int = 9, **job: Any
    ) -> None:
        """Place a job as the bridge does: seal, take one of the worker's slots, enqueue. `job`: fields of `Job`."""
        made = Job.model_validate(
            {"job_id": job_id, "model": self.model, "body": {}, "created": 0, "bridge_id": BRIDGE, **job}
        )
        payload = self._sealer.seal(made.model_dump_json().encode(), payload_aad(job_id))
        candidates = ((worker, slots),)
        placed = self._acquire(Placement(job_id, made.attempt, payload, BRIDGE, made.deadline, candidates))
        assert placed == worker
        self.enqueue(job_id, made.attempt, queue or keys.model_queue(self.model))

    def _acquire(self, placement: Placement) -> str | None:
        async def acquire() -> str | None:
            async with connect_async(self.url) as client:
                return await BridgeScripts(client).acquire(placement)

        return asyncio.run(acquire())

    def enqueue(self, job_id: str, attempt: int, queue: str) -> None:
        self.app.send_task(INFER, (job_id, attempt, self.model, 1), queue=queue, argsrepr=ARGSREPR, kwargsrepr="{}")

    def cancel(self, job_id: str, worker: str = "w1", attempt: int = 0) -> None:
        command = {"op": "cancel", "job_id": job_id, "attempt": attempt}
        assert self.client.publish(keys.control(worker), json.dumps(command)) == 1

    # ------------------------------------------------------------------- replies

    def events(self, job_id: str) -> list[Event]:
        """What the bridge's replay stream holds of the job."""
        rows = self.client.xrange(keys.replay(BRIDGE))
        envelopes = [envelope for _, row in rows for envelope in unpack(row[b"b"])]
        return [open_event(envelope, self._opener) for envelope in envelopes if envelope.job_id == job_id]

    def types(self, job_id: str) -> list[str]:
        return [event.type for event in self.events(job_id)]

    def finished(self, job_id: str, timeout_s: float = PATIENCE_S) -> list[Event]:
        """The job's events, once its terminal one is there."""
        until(lambda: {"finished", "failed"} & set(self.types(job_id)), timeout_s)
        return self.events(job_id)

    def held(self, worker: str = "w1") -> set[bytes]:
        return self.client.smembers(keys.credits_of(worker))
