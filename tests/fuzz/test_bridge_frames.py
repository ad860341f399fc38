"""What a bridge might send to the API: any frame, in any order, about any job, also about those of others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.audit_chain import Head, sign
from ops.controlplane.jobs import Ask, Job, JobState
from tasks.contract import JobKind
from tasks.errors import BadRequestError
from tests.fuzz.cases import Fuzzer, refused_well
from tests.fuzz.mutation import as_bytes, mutated
from tests.fuzz.plane import BRIDGE, KID, WORKER, Connected

SECRET = "quartzplume"
OPEN_JOBS = 12
SIGNED = {"signature": "A"}
MODEL = {"id": "m", "capability": "chat", "context_length": 8192, "loaded": True, "features": ["tools"]}
ADVERT = {
    "id": WORKER,
    "name": "n",
    "node": "wrk",
    "version": "1",
    "device": "cpu",
    "slots_total": 4,
    "slots_busy": 1,
    "models": ["m"],
    "kids": [KID],
    "labels": [],
}


def samples(job_id: str, seq: int) -> tuple[dict[str, Any], ...]:
    """Every frame of a bridge; those of jobs are about this one and its next seq."""
    at = {"job_id": job_id, "seq": seq}
    piece = {**at, "data": '{"choices":[{"delta":{"content":"' + SECRET + '"}}]}'}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1}
    blob = {"name": "reply", "size": 3, "pieces": 1}
    detail = {"model": "m", "node": "n", "stage": "downloading", "done": 1, "total": 2, "rate": 1.0, "eta": 1.0}
    return (
        {"type": "chunk", "events": [piece, {**piece, "seq": seq + 1}]},
        {"type": "chunk", "events": [piece]},
        {"type": "progress", **at, "stage": "claimed", "worker_id": WORKER, "worker_name": "n"},
        {"type": "progress", **at, "stage": "downloading", "fraction": 0.5, "detail": detail},
        {"type": "result", **at, "worker_id": WORKER, "data": "{}", "timing": {"ttft_ms": 1.5}, "queue_wait_ms": 2.0},
        {"type": "result", **at, "worker_id": WORKER, "blob": blob},
        {"type": "blob", "job_id": job_id, "name": "reply", "index": 0, "data": "YWJj", "last": True},
        {"type": "error", **at, "code": "worker_error", "message": SECRET, "status": 502, "retry_after": 1.0},
        {"type": "usage", "job_id": job_id, "model": "m", "worker_id": WORKER, "usage": usage},
        {"type": "accepted", "job_id": job_id, "position": 2},
        {"type": "workers", "workers": [ADVERT]},
        {"type": "models", "models": [MODEL]},
        {"type": "capacity", "slots_total": 4, "slots_busy": 1, "waiting": 0},
        {"type": "keys", "keys": [{"kid": KID, "public_key": "AAAA"}]},
        {"type": "resume", "jobs": [{"job_id": job_id, "seq": seq}]},
        {"type": "audit_checkpoint", "log": "l", "line": 3, "head": KID, "time": 1.0, "public_key": "", **SIGNED},
        {"type": "hello", "worker_id": "w", "nonce": "A", "time": 1.0, "protocol": 1, "public_key": "A", **SIGNED},
    )  # fmt: skip


def signed(frame: Any) -> Any:
    """A bridge's own signature fits whatever it claims."""
    if not isinstance(frame, dict) or frame.get("type") != "audit_checkpoint":
        return frame
    try:
        made = sign(BRIDGE, frame["log"], Head(frame["line"], frame["head"]), frame["time"])
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError):
        return frame
    return {**frame, "public_key": made.public_key, "signature": made.signature}


class Api:
    """A hub with open requests, which are asked anew when they end."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected
        self._hub = connected.plane.hub
        key = connected.plane.keys.find(connected.key)
        assert key is not None
        self._key = key
        self._number = 0
        self.jobs: list[Job] = []
        self.seen: Counter[str] = Counter()

    def receive(self, rng: Random) -> None:
        self._ask()
        job = rng.choice(self.jobs[:3])  # of few, much: so they come to their ends
        sample = rng.choice(samples(job.id, job.last_seq + rng.choice((1, 1, 1, 1, 0, 2))))
        raw = as_bytes(signed(mutated(sample, rng)), rng)
        try:
            self._connected.hear(raw.decode())
        except UnicodeDecodeError:
            return  # the socket refuses that (test_sockets)
        except BadRequestError as exc:
            refused_well(exc, "bad_frame", SECRET)
            self.seen["refused"] += 1
        self._hub.tick()
        self._connected.plane.usage.flush()
        self._read()

    def _ask(self) -> None:
        if len(self.jobs) < OPEN_JOBS:
            self._connected.advertise()
        while len(self.jobs) < OPEN_JOBS:
            self._number += 1
            stream = self._number % 2 == 0
            ask = Ask(JobKind.CHAT, "m", stream=stream, body={"messages": [SECRET]})
            self.jobs.append(self._hub.open(f"req_{self._number}", ask, self._key))

    def _read(self) -> None:
        """As the handlers do; an ended request is left."""
        for job in list(self.jobs):
            self.seen.update(type(item).__name__ for item in job.mailbox.take_now())
            if job.state is not JobState.OPEN:
                self._hub.leave(job)
                self.jobs.remove(job)
                self.seen[str(job.state)] += 1


@pytest.fixture
def api(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Api]:
    caplog.set_level(logging.CRITICAL + 1, "pendra")
    connected = Connected(tmp_path)
    yield Api(connected)
    connected.plane.close()


async def test_frames_of_a_bridge(fuzzer: Fuzzer, api: Api) -> None:
    fuzzer.run(api.receive, sample=1500, all_of_them=25_000)
    assert all(api.seen[kind] > 10 for kind in ("refused", "bytes", "Ended", "Problem", "finished", "failed")), (
        api.seen
    )
