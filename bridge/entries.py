"""An open job (or install) as it is written down for a successor. Pure data; `bridge.registry` keeps it in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from bridge.jobs import JobRecord
from bridge.protocol import JobFrame
from tasks.contract import Frozen, Job, Resume


class Entry(Frozen):
    """An open job as it stood when its attempt began: what was delivered until then, and how it got there.

    `unacked`: frames that the API had not confirmed. They may never have reached it. `over`: the job has ended, and
    its worker may not have freed its slot (`bridge.loose_ends`); its request is left out.
    """

    frame: JobFrame
    attempt: int = 0
    next_seq: int = 0
    streamed: bool = False
    continuable: bool = True
    tokens: tuple[int, ...] = Field(default=(), repr=False)
    kid: str = ""
    steps: tuple[bytes, ...] = Field(default=(), repr=False)
    losses: int = 0
    handovers: int = 0
    unacked: tuple[tuple[int, str, bool], ...] = Field(default=(), repr=False)
    over: bool = False

    @property
    def id(self) -> str:
        return self.frame.job_id

    @classmethod
    def of(cls, record: JobRecord) -> Entry:
        """The open job as it is now."""
        return cls(
            frame=record.frame,
            attempt=record.attempt,
            next_seq=record.next_seq,
            streamed=record.streamed,
            continuable=record.continuable,
            tokens=tuple(record.tokens),
            kid=record.kid,
            steps=tuple(record.steps),
            losses=record.losses,
            handovers=record.handovers,
            unacked=tuple(record.outbox),
        )

    @classmethod
    def ended(cls, record: JobRecord) -> Entry:
        """The job that is over."""
        stub = record.frame.model_copy(update={"body": {}})
        return cls(frame=stub, attempt=record.attempt, over=True)


class HostFailure(Frozen):
    """Why a host did not do what it was asked."""

    code: str
    message: str


class InstallEntry(Frozen):
    """An install or uninstall as it is written down: hosts at work (task id → host), and those that have ended."""

    id: str
    tasks: Mapping[str, str]
    seq: int
    results: Mapping[str, dict[str, Any]]
    failures: Mapping[str, HostFailure]


@dataclass(frozen=True, slots=True)
class Found:
    """What a predecessor left of a job. `holder`: the worker whose slot its attempt holds, "" when none does."""

    entry: Entry = field(repr=False)
    holder: str = ""


def newest(entry: Entry, job: Job) -> Entry:
    """The entry, brought to the attempt that was dispatched (the two are not written together). Pure."""
    if job.attempt <= entry.attempt:
        return entry
    begun = {"attempt": job.attempt, "next_seq": job.first_seq, "streamed": job.resume is not None, "unacked": ()}
    resume = job.resume or Resume()
    told = {"tokens": resume.token_ids, "kid": resume.kid, "steps": resume.steps}
    return entry.model_copy(update=begun | told)
