"""The API as a model: what it asked for, and a check of every frame it gets.

A job's numbers come once, in order, without a hole, and nothing comes after its end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from bridge.protocol import JobMark


@dataclass
class Asked:
    """A job as the API sees it."""

    tokens: int
    stream: bool
    text: list[int] = field(default_factory=list)
    last_seq: int = -1
    ends: list[str] = field(default_factory=list)
    cancelled: bool = False

    @property
    def open(self) -> bool:
        return not self.ends and not self.cancelled


class Api:
    """AssertionError: a frame breaks a promise."""

    def __init__(self) -> None:
        self.jobs: dict[str, Asked] = {}

    def ask(self, tokens: int, *, stream: bool) -> str:
        """The new job's id."""
        name = f"j{len(self.jobs)}"
        self.jobs[name] = Asked(tokens, stream)
        return name

    def marks(self) -> tuple[JobMark, ...]:
        """What it waits for."""
        return tuple(JobMark(job_id=name, seq=one.last_seq) for name, one in self.jobs.items() if one.open)

    def received(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "chunk":
                for event in frame["events"]:
                    self._chunk(event["job_id"], event["seq"], event["data"])
            case "progress" | "result":
                self._next(frame["job_id"], frame["seq"], frame)
            case "error":
                self._failed(frame)
            case "resume":
                self._resumed({mark["job_id"] for mark in frame["jobs"]})

    def judge(self, excuses: set[str]) -> None:
        """One end each, with the whole text, or with an error that is excused."""
        for name, asked in self.jobs.items():
            assert asked.cancelled or len(asked.ends) == 1, (name, asked)
            if asked.ends == ["finished"]:
                assert not asked.stream or asked.text == list(range(asked.tokens)), (name, asked)
            elif asked.ends:
                assert asked.ends[0] in excuses, (name, asked)

    def _chunk(self, job_id: str, seq: int, data: str) -> None:
        asked = self.jobs[job_id]
        if self._is_next(job_id, seq):
            numbers = json.loads(data)
            assert numbers == list(range(len(asked.text), len(asked.text) + len(numbers))), (job_id, numbers)
            asked.text += numbers

    def _next(self, job_id: str, seq: int, frame: dict[str, Any]) -> None:
        asked = self.jobs[job_id]
        if self._is_next(job_id, seq) and frame["type"] == "result":
            whole = list(json.loads(frame["data"])) if frame["data"] else asked.text
            assert whole == list(range(asked.tokens)), (job_id, whole)
            asked.ends.append("finished")

    def _is_next(self, job_id: str, seq: int) -> bool:
        """False: it is a replay, or nobody waits for it any more."""
        asked = self.jobs[job_id]
        if not asked.open or seq <= asked.last_seq:
            return False
        assert seq == asked.last_seq + 1, f"{job_id}: {seq} after {asked.last_seq}"
        asked.last_seq = seq
        return True

    def _failed(self, frame: dict[str, Any]) -> None:
        asked = self.jobs[frame["job_id"]]
        if asked.open:
            asked.ends.append(frame["code"])

    def _resumed(self, held: set[str]) -> None:
        for name, asked in self.jobs.items():
            if asked.open and name not in held:
                assert not asked.text, f"{name} was forgotten in the middle"
                asked.cancelled = True  # the API sends it again under another id
