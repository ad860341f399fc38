"""The installs that run on this host, and whether they shall stop: cancelled, revoked, or the process ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from tasks import keys
from worker.store.run import Stop


@dataclass(slots=True)
class Ticket:
    """An install that runs here. `stop` is set once, by whoever cancels it."""

    model: str
    stop: Stop | None = None


class Tickets:
    """All methods from any thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._open: dict[str, Ticket] = {}
        self._draining = False

    @contextmanager
    def running(self, task_id: str, model: str) -> Iterator[Ticket]:
        """The body is the install."""
        asked = self._asked_before(task_id)
        with self._lock:
            ticket = self._open[task_id] = Ticket(model, asked)
        try:
            yield ticket
        finally:
            with self._lock:
                self._open.pop(task_id, None)

    def cancel(self, target: str, how: Stop) -> list[str]:
        """Stop those of this task id or model id; the task ids that were hit, in order."""
        with self._lock:
            hit = {one: ticket for one, ticket in self._open.items() if target in (one, ticket.model)}
            for ticket in hit.values():
                ticket.stop = how
        return sorted(hit)

    def drain(self) -> None:
        """All stop soon, to go on at the next start. Takes no lock."""
        self._draining = True

    def why_stop(self, task_id: str, ticket: Ticket) -> Stop | None:
        """None: go on."""
        from celery.worker.state import revoked  # noqa: PLC0415  # what `celery control revoke` and Flower fill

        if ticket.stop is not None:
            return ticket.stop
        if self._draining:
            return Stop.LATER
        return Stop.KEEP if task_id in revoked else None

    def _asked_before(self, task_id: str) -> Stop | None:
        """Whether it was cancelled while nobody was there to hear it."""
        try:
            said = self._client.get(keys.install_stop(task_id))
        except redis.RedisError:
            return None
        return Stop(said.decode()) if said in (b"keep", b"discard") else None
