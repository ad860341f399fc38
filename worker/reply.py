"""The one way in which a running job speaks: numbered events, exactly one of them the last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

from tasks.contract import Chunk, Claimed, Event, Failed, Finished, Job, Progress, Timing, Usage
from tasks.errors import PendraError, PrivateReplyError, SealError, UnavailableError, WorkerError
from tasks.logs import event
from tasks.private import is_private
from tasks.scripts import Guard, Published
from worker.backends.base import Ending
from worker.private.frames import SealedFrame

_LOG = logging.getLogger("pendra.worker")
_RETRYABLE = (WorkerError, UnavailableError, SealError)


@dataclass(frozen=True, slots=True)
class Closing:
    """How a job ended: counts and durations, and the error's code ("" = none)."""

    code: str = ""
    usage: Usage = field(default_factory=Usage)
    timing: Timing = field(default_factory=Timing)


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
        *,
        epoch: str = "",
    ) -> None:
        self.job = job
        self._worker_id = worker_id
        self._worker_name = worker_name
        self._epoch = epoch
        self._post = post
        self._emit = emit
        self._seq = job.first_seq  # publisher thread only
        self._ended = False  # publisher thread only
        self._lock = threading.Lock()
        self._closing: Closing | None = None
        self._settled = threading.Event()
        self.stage = ""  # of the last `progress`
        self.private = job.private or is_private(job.body)
        self.stop: Callable[[], None] = lambda: None
        """Ends the work when it turns out that nobody takes its events any more."""
        self._reply_id = ""
        self._framed = 0  # sealed frames in the events so far; publisher thread only

    @property
    def closed(self) -> bool:
        """Whether the terminal event has been given (it may not be out yet)."""
        return self._closing is not None

    @property
    def closing(self) -> Closing:
        """What the terminal call said; empty before it."""
        return self._closing or Closing()

    def claimed(self) -> bool:
        who: dict[str, Any] = {"worker_id": self._worker_id, "worker_name": self._worker_name, "epoch": self._epoch}
        return self._send(lambda seq: Claimed(**self._at(seq), **who))

    def progress(self, stage: str, fraction: float = 0.0) -> bool:
        self.stage = stage
        return self._send(lambda seq: Progress(**self._at(seq), stage=stage, fraction=fraction))

    def chunk(self, data: str, tokens: tuple[int, ...] | None = ()) -> bool:
        """One ready SSE payload (JSON text) and the token ids it delivers (None: see `Chunk`)."""
        self.stage = ""
        return self._send(lambda seq: Chunk(**self._at(seq), data=data, tokens=tokens))

    def sealed_with(self, reply_id: str, first_frame: int) -> None:
        """A private job: before its first frame."""
        self._reply_id, self._framed = reply_id, first_frame

    def frame(self, seal: Callable[[], SealedFrame]) -> bool:
        """One frame of a private stream; `seal` runs on the publisher thread, when it is the frame's turn."""
        self.stage = ""
        return self._send(lambda seq: self._frame_event(seq, seal()))

    def _frame_event(self, seq: int, frame: SealedFrame) -> Chunk:
        tokens = () if frame.continuable else None
        return Chunk(
            **self._at(seq), data=frame.data, tokens=tokens, kid=frame.kid, step=frame.step, whole=frame.whole
        )

    def guard(self, events: Sequence[Event]) -> Guard:
        """What these events, the next of a private job, must meet to be published. Publisher thread."""
        first = self._framed
        self._framed += sum(map(_holds_frame, events))
        return Guard(self.job.job_id, self.job.attempt, self._reply_id, first, self._framed)

    def refused(self, why: Published) -> None:
        """Events of a private job were not published: it is somebody else's now, or must not go on. Any thread."""
        if self._settled.is_set():  # said once more, after a lost connection
            return
        event(_LOG, logging.WARNING, "job.fenced", job_id=self.job.job_id, attempt=self.job.attempt, why=why.name)
        if why is Published.OUT_OF_ORDER:
            self.fail(PrivateReplyError("a part of this private reply was lost; to go on would not be safe"))
        self.stop()

    def finish(self, data: str | Callable[[], str] | None = None, **ending: Unpack[Ending]) -> bool:
        """The job ended well; `data` is the whole reply of a job that does not stream.

        What makes it instead is called on the publisher thread.
        """
        return self._send(
            lambda seq: Finished(**self._at(seq), data=data() if callable(data) else data, **ending),
            Closing(usage=ending.get("usage", Usage()), timing=ending.get("timing", Timing())),
        )

    def fail(self, error: PendraError) -> bool:
        """The job ended badly. What is this worker's own fault is marked as worth another worker."""
        failed: dict[str, Any] = {"code": error.code, "message": error.message, "param": error.param}
        retry = isinstance(error, _RETRYABLE)
        return self._send(lambda seq: Failed(**self._at(seq), **failed, retryable=retry), Closing(error.code))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the terminal event is out, or given up. False after `timeout_s`."""
        return self._settled.wait(timeout_s)

    def settle(self) -> None:
        self._settled.set()

    def _send(self, make: Callable[[int], Event], closing: Closing | None = None) -> bool:
        """`closing`: of the terminal event."""
        with self._lock:
            if self._closing is not None:
                return False
            self._closing = closing
            self._post(lambda: self._number(make, last=closing is not None))
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


def _holds_frame(item: Event) -> bool:
    """Whether this event of a private job carries a sealed frame; each carries at most one."""
    return isinstance(item, Chunk) or (isinstance(item, Finished) and item.data is not None)
