"""What bridges tell this worker directly: cancel a job, drain. One thread on one pub/sub channel.

Pub/sub loses silently, so the thread pings over the subscription itself and starts anew when nothing comes back. A
cancel that falls into such a gap costs a slot until the job ends; the client is not affected.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from pydantic_core import from_json

from tasks import keys
from tasks.logs import event

_LOG = logging.getLogger("pendra.control")
_PING_S = 5.0
_DEAF_S = 15.0  # three pings unanswered
_POLL_S = 0.5
_BACKOFF_S = (0.1, 2.0)


@dataclass(frozen=True, slots=True)
class Cancel:
    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Drain:
    pass


@dataclass(frozen=True, slots=True)
class Leave:
    """Drain, then end the process."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Take a model out of memory and off the list; `force`: once its jobs have ended. `answers`: a list's key."""

    model: str
    force: bool
    answers: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Serve a model again after all."""

    model: str


def parse(data: bytes) -> Cancel | Drain | Leave | Unload | Restore | None:
    """The command in a message, None when there is none we know. Pure; never raises."""
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
        command = from_json(data)  # nothing nested too deeply gets through it, as it does through json.loads
        if command["op"] == "cancel":
            return Cancel(str(command["job_id"]), int(command["attempt"]))
        if command["op"] == "drain":
            return Drain()
        if command["op"] == "leave":
            return Leave()
        if command["op"] == "unload":
            return Unload(str(command["model"]), bool(command["force"]), str(command["answers"]))
        if command["op"] == "restore":
            return Restore(str(command["model"]))
    return None


class Control:
    """Listens from `start` to `stop`; the callbacks run on the control thread and must not block."""

    def __init__(
        self,
        client: redis.Redis,
        worker_id: str,
        *,
        on_cancel: Callable[[str, int], None],
        on_drain: Callable[[], None],
        on_model: Callable[[Unload | Restore], None] = lambda _command: None,
        on_leave: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._channel = keys.control(worker_id)
        self._on_cancel = on_cancel
        self._on_drain = on_drain
        self._on_model = on_model
        self._on_leave = on_leave or on_drain
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        delay = _BACKOFF_S[0]
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except (redis.RedisError, OSError) as exc:
                event(_LOG, logging.WARNING, "control.lost", error=type(exc).__name__, retry_s=delay)
                if time.monotonic() - began > _DEAF_S:
                    delay = _BACKOFF_S[0]
                self._stopping.wait(delay)
                delay = min(delay * 2, _BACKOFF_S[1])

    def _listen(self) -> None:
        """Until stopped. Raises redis.RedisError when the subscription is broken or deaf."""
        with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py's
            pubsub.subscribe(self._channel)
            heard = pinged = time.monotonic()
            while not self._stopping.is_set():
                message = pubsub.get_message(timeout=_POLL_S)
                now = time.monotonic()
                if message is not None:
                    heard = now
                    self._handle(message)
                if now - heard > _DEAF_S:
                    raise redis.ConnectionError("nothing came over the control channel, not even our pings")
                if now - pinged > _PING_S:
                    pinged = now
                    pubsub.ping()

    def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            event(_LOG, logging.INFO, "control.listening", channel=self._channel)
        if message["type"] != "message":
            return
        match parse(message["data"]):
            case Cancel(job_id, attempt):
                self._on_cancel(job_id, attempt)
            case Drain():
                self._on_drain()
            case Leave():
                self._on_leave()
            case Unload() | Restore() as command:
                self._on_model(command)
            case None:
                event(_LOG, logging.WARNING, "control.unknown", size=len(message["data"]))
