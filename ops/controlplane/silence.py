"""What a look at the clock says about an open request. Pure; the hub asks at every tick."""

from __future__ import annotations

from enum import Enum

from ops.controlplane.config import Limits, Timers
from ops.controlplane.jobs import Job
from tasks.contract import JobKind


class Verdict(Enum):
    FINE = "fine"
    KEEP_ALIVE = "keep_alive"
    TIMED_OUT = "timed_out"
    READER_TOO_SLOW = "reader_too_slow"


def judge(job: Job, now: float, timers: Timers, limits: Limits) -> Verdict:
    """A reader that stalls is given up first, then a silent worker; else the client may need a sign of life."""
    unread = job.mailbox.unread
    if unread > limits.unread_bytes or (unread and is_stalled(job, now, timers)):
        return Verdict.READER_TOO_SLOW
    total = timers.total_s(job.ask.kind)
    if total is not None:
        if now - job.opened > total:
            return Verdict.TIMED_OUT
    elif now - job.heard > _idle_s(job, timers):
        return Verdict.TIMED_OUT
    return Verdict.KEEP_ALIVE if _wants_a_sign(job, now, timers) else Verdict.FINE


def is_stalled(job: Job, now: float, timers: Timers) -> bool:
    """The client took nothing for so long that what is written for it is stuck. (Signs of life count as taken.)"""
    return now - job.told > timers.stalled_reader_s


def _wants_a_sign(job: Job, now: float, timers: Timers) -> bool:
    if job.nudged is None:
        return now - job.told > timers.keepalive_after_s
    return now - job.nudged > timers.keepalive_every_s


def timeout_words(job: Job, timers: Timers) -> str:
    total = timers.total_s(job.ask.kind)
    if total is not None:
        return f"the request took longer than {total:g} s, the limit for {_NAMES[job.ask.kind]}"
    where = f"worker '{job.worker_id}'" if job.worked_on else "any worker"
    return f"nothing was heard from {where} for {_idle_s(job, timers):g} s"


def _idle_s(job: Job, timers: Timers) -> float:
    return timers.working_idle_s if job.worked_on and not job.ask.stream else timers.idle_s


_NAMES = {
    JobKind.EMBEDDINGS: "embeddings",
    JobKind.RERANK: "reranking",
    JobKind.IMAGE: "images",
    JobKind.TRANSCRIPTION: "transcription",
    JobKind.SPEECH: "speech",
}
