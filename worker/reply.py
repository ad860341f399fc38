"""The one way in which a running job speaks: numbered events, exactly one of them the last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tasks.contract import Chunk, Claimed, Event, Failed, Finished, Job, Notice, Progress, Timing, Usage
from tasks.errors import PendraError, SealError, UnavailableError, WorkerError

_RETRYABLE = (WorkerError, UnavailableError, SealError)


class JobReply:
    """A job's events, in the order of the calls, `seq` from `job.first_seq` without holes.

    Callable from any thread. The first terminal call (`finish`, `fail`) wins and returns True; whatever comes after
    it is refused (False). Nothing here blocks except `wait`.
    """

    def __init__(
        self,
        job: Job,
        worker_id: str,
        worker_name: str,
        post: Callable[[Callable[[], None]], None],
        emit: Callable[[JobReply, Event], None],
    ) -> None:
        self.job = job
        self._worker_id = worker_id
        self._worker_name = worker_name
        self._post = post
        self._emit = emit
        self._seq = job.first_seq  # publisher thread only
        self._ended = False  # publisher thread only
        self._lock = threading.Lock()
        self._closed = False
        self._settled = threading.Event()
        self.stage = ""  # of the last `progress`

    @property
    def closed(self) -> bool:
        """Whether the terminal event has been given (it may not be out yet)."""
        return self._closed

    def claimed(self) -> bool:
        who: dict[str, Any] = {"worker_id": self._worker_id, "worker_name": self._worker_name}
        return self._send(lambda seq: Claimed(**self._at(seq), **who))

    def progress(self, stage: str, fraction: float = 0.0) -> bool:
        self.stage = stage
        return self._send(lambda seq: Progress(**self._at(seq), stage=stage, fraction=fraction))

    def chunk(self, data: str, tokens: tuple[int, ...] | None = ()) -> bool:
        """One ready SSE payload (JSON text) and the token ids it delivers (None: see `Chunk`)."""
        self.stage = ""
        return self._send(lambda seq: Chunk(**self._at(seq), data=data, tokens=tokens))

    def finish(
        self,
        data: str | None = None,
        *,
        usage: Usage = Usage(),  # noqa: B008  # frozen
        timing: Timing = Timing(),  # noqa: B008  # frozen
        notice: Notice | None = None,
    ) -> bool:
        """The job ended well; `data` is the whole reply of a job that does not stream."""
        return self._send(
            lambda seq: Finished(**self._at(seq), data=data, usage=usage, timing=timing, notice=notice), last=True
        )

    def fail(self, error: PendraError) -> bool:
        """The job ended badly. What is this worker's own fault is marked as worth another worker."""
        failed: dict[str, Any] = {"code": error.code, "message": error.message, "param": error.param}
        retry = isinstance(error, _RETRYABLE)
        return self._send(lambda seq: Failed(**self._at(seq), **failed, retryable=retry), last=True)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the terminal event is out, or given up. False after `timeout_s`."""
        return self._settled.wait(timeout_s)

    def settle(self) -> None:
        self._settled.set()

    def _send(self, make: Callable[[int], Event], *, last: bool = False) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._closed = last
            self._post(lambda: self._number(make, last=last))
            return True

    def _number(self, make: Callable[[int], Event], *, last: bool) -> None:
        """On the publisher thread, where calls of all threads have found their order."""
        if self._ended:  # posted before the terminal call of another thread, but ran after it
            return
        self._ended = last
        try:
            item = make(self._seq)
        except ValueError:
            if not last:
                raise
            item = Failed(**self._at(self._seq), code="worker_error", message="the reply is not a valid event")
        self._seq += 1
        self._emit(self, item)

    def _at(self, seq: int) -> dict[str, Any]:
        return {"job_id": self.job.job_id, "attempt": self.job.attempt, "seq": seq}
