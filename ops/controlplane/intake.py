"""What bridges say about open jobs: each frame once and in order, into the job's mailbox; acknowledgements back.

The table of open jobs lives here. `seq` of a job has no holes; a frame seen before (a replay) is dropped, and a hole
ends the job, because a client must never get half an answer for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.protocol import Ack, Blob, Cancel, ErrorFrame, JobMark, ProgressFrame, ResultFrame, UsageFrame, encode
from ops.controlplane.errors import Problem, problem_in, problem_of
from ops.controlplane.jobs import Job, JobState
from ops.controlplane.mailbox import Ended
from ops.controlplane.parts import Arriving
from ops.controlplane.sse import payload
from tasks.errors import WorkerError

if TYPE_CHECKING:
    from ops.controlplane.bridges import Bridge
    from ops.controlplane.placement import BridgeId
    from ops.controlplane.usage import UsageLog
    from ops.controlplane.wire import Chunks

JobFrames = ProgressFrame | ResultFrame | ErrorFrame | UsageFrame


class Intake:
    """Not thread-safe: the event loop's. `bridge_of` finds the bridge a job was sent to, away or not."""

    def __init__(
        self,
        usage: UsageLog,
        bridge_of: Callable[[BridgeId], Bridge | None],
        clock: Callable[[], float],
        ack_every_frames: int,
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._usage = usage
        self._bridge_of = bridge_of
        self._clock = clock
        self._ack_every = ack_every_frames
        self._unacked: dict[str, Job] = {}

    # ---------------------------------------------------------------- frames

    def chunks(self, bridge: Bridge, rows: Chunks) -> None:
        """The hot path: once per decode step."""
        now = self._clock()
        jobs, bridge_id = self.jobs, bridge.id
        for job_id, seq, data in rows:
            job = jobs.get(job_id)
            if job is None or job.bridge != bridge_id:
                continue
            if seq != job.last_seq + 1:
                if seq > job.last_seq:
                    self.fail(job, _gap(job, seq), stop=True)
                continue
            if job.first_chunk is None:
                job.first_chunk = data
            job.heard = now
            job.mailbox.put(payload(data))
            self._advance(job, seq)

    def frame(self, bridge: Bridge, frame: JobFrames) -> None:
        job = self.jobs.get(frame.job_id)
        if job is None or job.bridge != bridge.id:
            return
        job.heard = self._clock()
        if isinstance(frame, UsageFrame):
            job.usage = frame.usage
        elif isinstance(frame, ErrorFrame):  # an error needs nothing before it
            job.last_seq = max(job.last_seq, frame.seq)
            self.fail(job, problem_in(frame))
        elif frame.seq > job.last_seq + 1:
            self.fail(job, _gap(job, frame.seq), stop=True)
        elif frame.seq == job.last_seq + 1:
            self._next(job, frame)

    def heard(self, bridge: Bridge, job_id: str) -> None:
        """The bridge has taken the job."""
        job = self.jobs.get(job_id)
        if job is not None and job.bridge == bridge.id:
            job.heard = self._clock()

    def blob(self, bridge: Bridge, frame: Blob) -> None:
        """A piece of a large reply. It may come before its result, or after."""
        job = self.jobs.get(frame.job_id)
        if job is None or job.bridge != bridge.id:
            return
        job.heard = self._clock()
        if job.arriving is None or frame.index == 0:  # it begins anew after a reconnect
            job.arriving = Arriving(frame.name)
        try:
            job.arriving.add(frame)
            self._complete(job)
        except WorkerError as exc:
            self.fail(job, problem_of(exc), stop=True)

    def _complete(self, job: Job) -> None:
        """End a job whose result and whole reply are here. Raises WorkerError when they do not fit together."""
        held, arriving = job.held, job.arriving
        if held is None or held.blob is None or arriving is None or not arriving.done:
            return
        text = arriving.text(held.blob)
        self._advance(job, held.seq)
        self._finish(job, held.model_copy(update={"data": text, "blob": None}))

    def _hold(self, job: Job, frame: ResultFrame) -> None:
        job.held = frame
        try:
            self._complete(job)
        except WorkerError as exc:
            self.fail(job, problem_of(exc), stop=True)

    def _next(self, job: Job, frame: ProgressFrame | ResultFrame) -> None:
        if isinstance(frame, ResultFrame) and frame.blob is not None:
            self._hold(job, frame)  # acknowledged when all of it is here
            return
        self._advance(job, frame.seq)
        if isinstance(frame, ResultFrame):
            self._finish(job, frame)
        elif frame.worker_id is not None:
            job.worker_id, job.worker_name = frame.worker_id, frame.worker_name

    def _advance(self, job: Job, seq: int) -> None:
        job.last_seq = seq
        if seq - job.acked >= self._ack_every:
            self._ack(job)
        else:
            self._unacked[job.id] = job

    # ---------------------------------------------------------------- ends

    def _finish(self, job: Job, result: ResultFrame) -> None:
        self._end(job, JobState.FINISHED)
        if job.usage is not None:
            self._usage.add(
                request_id=job.request_id,
                key_id=job.key_id,
                kind=str(job.ask.kind),
                model=job.ask.model,
                worker_id=result.worker_id,
                usage=job.usage,
            )
        job.mailbox.put(Ended(result))

    def fail(self, job: Job, problem: Problem, *, stop: bool = False) -> None:
        """End with an error for the client. `stop`: the bridge does not know yet that it is over."""
        job.code = problem.code
        self._end(job, JobState.FAILED)
        if stop:
            self._send(job, encode(Cancel(job_id=job.id)))
        job.mailbox.put(problem)

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more."""
        self._end(job, JobState.CANCELLED)
        self._send(job, encode(Cancel(job_id=job.id)))

    def _end(self, job: Job, state: JobState) -> None:
        job.state = state
        del self.jobs[job.id]
        if job.last_seq >= 0:
            self._ack(job)

    # ---------------------------------------------------------------- acknowledgements

    def send_acks(self) -> None:
        """Acknowledge what came since the last time. What goes to a bridge that is away is in `marks` later."""
        for job in list(self._unacked.values()):
            self._ack(job)

    def marks(self, bridge_id: BridgeId) -> tuple[JobMark, ...]:
        """The bridge's open jobs and how far each has come, for `welcome`."""
        mine = [job for job in self.jobs.values() if job.bridge == bridge_id]
        return tuple(JobMark(job_id=job.id, seq=job.last_seq) for job in mine)

    def _ack(self, job: Job) -> None:
        self._unacked.pop(job.id, None)
        job.acked = job.last_seq
        self._send(job, encode(Ack(job_id=job.id, seq=job.last_seq)))

    def _send(self, job: Job, text: str) -> None:
        bridge = self._bridge_of(job.bridge)
        if bridge is not None:
            bridge.send(text)


def _gap(job: Job, seq: int) -> Problem:
    words = f"a part of the reply was lost on its way (piece {job.last_seq + 1} is missing, {seq} arrived)"
    return problem_of(WorkerError(words, code="stream_gap"))
