"""Celery's consumer with four changes: it survives the loss of Redis, it is back soon after, its model queues follow
the runtime, and it sends its task events ten times a second instead of three times a task."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown
from kombu.transport.redis import Channel

from tasks.logs import event
from tasks.redis_client import TRANSIENT

_LOG = logging.getLogger("pendra.consumer")
_EVENTS_S = 0.1  # a message for each costs a worker of short jobs an eighth of its Python time
_INTERVAL_S = {"interval_start": 0.2, "interval_step": 0.3, "interval_max": 2.0}  # stock: 2, 4 … 30 s

# kombu puts back what was popped and not yet acknowledged when a connection closes. Does it close because Redis is
# away, that raises on a collected transport and ends the worker. The bridge brings back what nobody claims.
Channel.do_restore = False


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery ships no types
    """Everything but `want` runs on Celery's main thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._wanted: frozenset[str] = frozenset()
        self._extra: set[str] = set()
        self._events_due = False
        super().__init__(*args, **kwargs)
        if self.hub is not None:  # it closes after the last task, and its timers do not fire any more
            self.hub.on_close.add(lambda _hub: self._send_events())
        # Celery takes a Redis that is full or not ready yet, as it subscribes its queues anew, for the worker's end.
        self.connection_errors = (*self.conninfo.connection_errors, *TRANSIENT)

    def want(self, queues: Iterable[str]) -> None:
        """Consume exactly these queues besides those the worker was started with. From any thread; idempotent.

        Takes effect within a second (the running BRPOP ends first); survives reconnects.
        """
        self._wanted = frozenset(queues)
        if self.hub is not None:
            self.hub.call_soon(self._follow)

    def on_ready(self) -> None:
        """The (re)connected consumer listens to everything it did before; catch up with what changed meanwhile."""
        super().on_ready()
        self._follow()

    def _flush_events(self) -> None:
        """Soon after a task's event: it woke this loop, which frees the task's slot; the event itself can wait."""
        if not self._events_due and self.hub is not None:
            self._events_due = True
            self.hub.call_later(_EVENTS_S, self._send_events)

    def _send_events(self) -> None:
        self._events_due = False
        super()._flush_events()

    def _follow(self) -> None:
        if self.task_consumer is None:  # disconnected: `on_ready` comes back here
            return
        wanted = self._wanted  # another thread may want something else meanwhile, and calls us again
        for queue in self._extra - wanted:
            self.cancel_task_queue(queue)
        for queue in wanted - self._extra:
            self.add_task_queue(queue)
        if self._extra != wanted:
            event(_LOG, logging.INFO, "consumer.queues", queues=sorted(wanted))
        self._extra = set(wanted)

    def ensure_connected(self, conn: Any) -> Any:
        """The stock method retries with an interval that grows to 30 s."""
        conn.ensure_connection(self._on_retry, None, **_INTERVAL_S, callback=maybe_shutdown)
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return conn

    def _on_retry(self, exc: Exception, interval: float) -> None:
        self.broker_connection_retry_attempt += 1
        level = logging.WARNING if self.broker_connection_retry_attempt == 1 else logging.DEBUG
        event(_LOG, level, "consumer.retry", error=type(exc).__name__, retry_s=interval)
