"""What the host's installer agent asks of a worker: let go of a model's files, or serve it again.

The answer to an `unload` goes into the list that it names: `{"worker_id", "ok", "busy"}` (see `worker.unloading`).
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Protocol

import redis

from tasks import keys
from tasks.logs import event
from worker.control import Restore, Unload

_LOG = logging.getLogger("pendra.worker")


class Models(Protocol):
    """What is asked of `worker.runtime.Runtime`. `withdraw` may block for as long as jobs run."""

    def withdraw(self, model_id: str, *, force: bool) -> int: ...
    def restore(self, model_id: str) -> None: ...


class ModelOrders:
    """Any thread. `obey` returns at once and never raises."""

    def __init__(self, client: redis.Redis, worker_id: str, models: Models) -> None:
        self._client = client
        self._worker_id = worker_id
        self._models = models

    def obey(self, order: Unload | Restore) -> None:
        if isinstance(order, Restore):
            self._models.restore(order.model)
        else:
            threading.Thread(target=self._unload, args=(order,), name="unload", daemon=True).start()

    def _unload(self, order: Unload) -> None:
        busy = self._models.withdraw(order.model, force=order.force)
        event(_LOG, logging.INFO, "model.unload", model=order.model, force=order.force, busy=busy)
        answer = {"worker_id": self._worker_id, "ok": busy == 0, "busy": busy}
        try:
            pipe = self._client.pipeline()
            pipe.rpush(order.answers, json.dumps(answer))
            pipe.expire(order.answers, keys.ANSWERS_TTL_S)
            pipe.execute()
        except redis.RedisError as exc:  # who asked hears nothing, and says so
            event(_LOG, logging.WARNING, "model.unload_untold", error=type(exc).__name__)
