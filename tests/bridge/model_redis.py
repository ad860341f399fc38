"""Redis as a model: slots, messages, the replay stream, and what a bridge wrote down."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from bridge.entries import Entry, Found, newest
from tasks.contract import Event, Job

Batch = tuple[str, tuple[Event, ...]]  # who published it, and what


@dataclass
class Hash:
    """A job in Redis. `held`: whether the worker's credits have it (a worker that starts empties them)."""

    job: Job
    credit: str
    claimer: str = ""
    held: bool = True


class Redis:
    """`up`: it answers. `late`: what it has still to pass on. `registry` is not lost with the rest: the session
    strikes off what is over, whether it is there or not."""

    def __init__(self) -> None:
        self.up = True
        self.hashes: dict[str, Hash] = {}
        self.stream: list[Batch] = []
        self.messages: list[tuple[str, int]] = []
        self.late: list[Batch] = []
        self.registry: dict[str, Entry] = {}

    def empty(self) -> None:
        """It is another server process."""
        self.hashes.clear()
        self.messages.clear()
        self.stream.clear()
        self.late.clear()

    def acquire(self, wanted: Job, candidates: tuple[tuple[str, int], ...], alive: Container[str]) -> str | None:
        """The worker whose slot the job has now."""
        self.hashes.pop(wanted.job_id, None)
        for worker_id, slots in candidates:
            held = sum(row.held and row.credit == worker_id for row in self.hashes.values())
            if held < slots and worker_id in alive:
                self.hashes[wanted.job_id] = Hash(wanted, worker_id)
                return worker_id
        return None

    def claim(self, worker_id: str) -> Job | None:
        """The job of the first message, unless somebody else decided about it."""
        if not self.messages:
            return None
        job_id, attempt = self.messages.pop(0)
        row = self.hashes.get(job_id)
        if row is None or row.job.attempt != attempt or row.claimer:
            return None
        row.claimer = row.credit = worker_id
        return row.job

    def release(self, job_id: str, attempt: int) -> None:
        row = self.hashes.get(job_id)
        if row is not None and row.job.attempt == attempt:
            del self.hashes[job_id]

    def drop_credits(self, worker_id: str) -> None:
        for row in self.hashes.values():
            if row.credit == worker_id:
                row.held = False

    def left(self) -> list[Found]:
        """What a dead bridge's successor finds."""
        return [self._found(entry) for entry in self.registry.values()]

    def _found(self, entry: Entry) -> Found:
        row = self.hashes.get(entry.id)
        return Found(entry) if row is None else Found(newest(entry, row.job), row.credit)

    def judge(self) -> None:
        """Nothing is left. AssertionError: something is."""
        assert not self.registry, "a job that is over is written down"
        assert not any(row.held for row in self.hashes.values()), "a slot leaked"
        assert not self.hashes, "a job that is over is left"
