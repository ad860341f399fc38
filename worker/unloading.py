"""Taking a model out of the memory of all workers of a host, before its files go.

The agent asks each worker over its control channel (`{"op": "unload", …}`) and gets the answer in a list of its own:
`{"worker_id", "ok", "busy"}`. A worker that said yes does not serve the model again until its files are gone, or
until `{"op": "restore", …}`.
"""

from __future__ import annotations

import json
import logging
import time

import redis
from pydantic import ValidationError

from tasks import keys
from tasks.contract import WorkerInfo
from tasks.errors import UnavailableError
from tasks.logs import event
from worker.store.errors import ModelInUseError

_LOG = logging.getLogger("pendra.installer")
ANSWER_S = 10.0
DRAIN_S = 600.0  # how long `force` lets jobs go on
_LOOK_S = 1.0


class Unloading:
    """`client` is the agent's. Blocking; any thread."""

    def __init__(self, client: redis.Redis, node: str) -> None:
        self._client = client
        self._node = node

    def unload(self, model: str, *, force: bool, request_id: str) -> None:
        """Have the model in no memory of this host.

        Raises ModelInUseError, UnavailableError; all is as before then.
        """
        try:
            self._ask(model, force=force, request_id=request_id)
        except (ModelInUseError, UnavailableError):
            self.restore(model)
            raise
        except redis.RedisError as exc:
            why = f"Redis cannot be asked who uses {model}: {type(exc).__name__}"
            raise UnavailableError(why, code="redis_unavailable") from None

    def restore(self, model: str) -> None:
        """Serve it again. Best effort."""
        try:
            for worker in self._workers():
                self._client.publish(keys.control(worker), json.dumps({"op": "restore", "model": model}))
        except redis.RedisError as exc:
            event(_LOG, logging.WARNING, "uninstall.restore_failed", model=model, error=type(exc).__name__)

    def _ask(self, model: str, *, force: bool, request_id: str) -> None:
        answers = keys.answers(request_id)
        message = {"op": "unload", "model": model, "force": force, "answers": answers}
        waiting = {one for one in self._workers() if self._client.publish(keys.control(one), json.dumps(message))}
        deadline = time.monotonic() + (DRAIN_S if force else ANSWER_S)
        while waiting:
            answer = self._client.blpop([answers], timeout=_LOOK_S)
            if answer is not None:
                found = json.loads(answer[1])
                if not found["ok"]:
                    raise ModelInUseError(
                        f"{model} is in use by {found['busy']} jobs on {found['worker_id']}; try again later, or "
                        "let `--force` wait for them"
                    )
                waiting.discard(found["worker_id"])
            else:
                waiting &= self._workers()  # one that has died holds nothing
            if waiting and time.monotonic() > deadline:
                raise UnavailableError(f"{', '.join(sorted(waiting))} did not unload {model} in time", code="timeout")

    def _workers(self) -> set[str]:
        """The living workers of this host."""
        found = set()
        for text in self._client.hvals(keys.WORKERS):
            try:
                info = WorkerInfo.model_validate_json(text)
            except ValidationError:
                continue
            if info.node == self._node and self._client.exists(keys.worker_lease(info.worker_id)):
                found.add(info.worker_id)
        return found
