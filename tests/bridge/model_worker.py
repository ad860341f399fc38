"""Workers as a model: each counts from 0, or from where an attempt before it came to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tasks.contract import Chunk, Event, Finished, Job, Progress, Usage, WorkerInfo
from tests.bridge.builders import worker


@dataclass
class Run:
    """An attempt in a worker. `said`: what it has published, for a Redis that loses it."""

    job: Job
    tokens: int
    made: int
    seq: int
    said: list[tuple[Event, ...]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.made == self.tokens

    def at(self, later: int = 0) -> dict[str, Any]:
        """The first fields of its next event, or of one a little later."""
        return {"job_id": self.job.job_id, "attempt": self.job.attempt, "seq": self.seq + later}

    def say(self, *events: Event) -> tuple[Event, ...]:
        self.seq += len(events)
        self.said.append(events)
        return events

    def step(self, count: int) -> tuple[Event, ...]:
        """Some tokens more, and the end with the last."""
        numbers = list(range(self.made, min(self.made + count, self.tokens)))
        self.made += len(numbers)
        said: list[Event] = []
        if self.job.stream and numbers:
            said.append(Chunk(**self.at(), data=json.dumps(numbers), tokens=tuple(numbers)))
        elif numbers:
            said.append(Progress(**self.at(), stage="decode"))
        if self.over:
            data = None if self.job.stream else json.dumps(list(range(self.tokens)))
            usage = Usage(completion_tokens=self.tokens)
            said.append(Finished(**self.at(len(said)), data=data, usage=usage))
        return self.say(*said)


class Worker:
    """`runs` by (job, attempt). `alive`: its process; `beats`: whether anybody hears of it."""

    def __init__(self, worker_id: str, slots: int) -> None:
        self.id = worker_id
        self.slots = slots
        self.epoch = 0
        self.alive = self.beats = True
        self.runs: dict[tuple[str, int], Run] = {}

    @property
    def info(self) -> WorkerInfo:
        return worker(self.id, slots=self.slots, epoch=f"e{self.epoch}", slots_busy=len(self.runs))

    @property
    def free(self) -> bool:
        return self.alive and len(self.runs) < self.slots

    def begin(self, job: Job) -> Run:
        made = len(job.resume.token_ids) if job.resume else 0
        run = self.runs[job.job_id, job.attempt] = Run(job, job.body["n"], made, job.first_seq)
        return run

    def stop(self, job_id: str, attempt: int) -> list[Run]:
        """What it stops when it is told to: this attempt of the job, and older ones."""
        mine = [key for key in self.runs if key[0] == job_id and key[1] <= attempt and self.alive]
        return [self.runs.pop(key) for key in mine]

    def die(self) -> None:
        self.alive = False
        self.runs.clear()

    def revive(self) -> None:
        if not self.alive:
            self.alive, self.epoch = True, self.epoch + 1
        self.beats = True
