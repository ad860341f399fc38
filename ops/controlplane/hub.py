"""Between the HTTP side and the bridges: who is connected, which request is where, what time makes of it. Sans-I/O.

Runs on the event loop, never blocks. Requests come in by `open` and out through their job's mailbox; bridges come
in by `connect` and `received`, and are spoken to through their `Link`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Container
from functools import partial

from bridge.protocol import (
    Accepted,
    AuditCheckpoint,
    Blob,
    Cancel,
    Capacity,
    CloseCode,
    ErrorFrame,
    Hello,
    Keys,
    Models,
    ProgressFrame,
    ResultFrame,
    Resume,
    UsageFrame,
    Welcome,
    Workers,
    WorkloadKey,
    encode,
)
from ops.controlplane.bridges import Bridge, Link
from ops.controlplane.checkpoints import CheckpointLog
from ops.controlplane.config import Config
from ops.controlplane.errors import problem_of
from ops.controlplane.install_log import InstallLog
from ops.controlplane.installs import Installs
from ops.controlplane.intake import Intake
from ops.controlplane.jobs import Ask, Job, JobState
from ops.controlplane.keystore import ApiKey
from ops.controlplane.mailbox import Sign
from ops.controlplane.parts import frames
from ops.controlplane.placement import BridgeId, place
from ops.controlplane.silence import Verdict, is_stalled, judge, timeout_words
from ops.controlplane.usage import UsageLog
from ops.controlplane.wire import decode
from tasks.errors import BadRequestError, JobTimeoutError, UnavailableError, WorkerError
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")

AFFINITIES_KEPT = 10_000
MAX_RESENDS = 2
RETRY_STOPPING_S = 5.0


class Hub:
    """`clock` is monotonic, `wall` is what deadlines are in."""

    def __init__(
        self,
        config: Config,
        usage: UsageLog,
        catalogue: Container[str],
        installs: InstallLog,
        checkpoints: CheckpointLog,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._timers, self._limits = config.timers, config.limits
        self._catalogue = catalogue
        self._checkpoints = checkpoints
        self._clock, self._wall = clock, wall
        self._bridges: dict[BridgeId, Bridge] = {}
        self._affinity: OrderedDict[str, BridgeId] = OrderedDict()
        self._intake = Intake(usage, self._bridges.get, clock, config.limits.ack_every_frames)
        self.installs = Installs(self._tell, installs, wall)
        self._answering: dict[str, Job] = {}  # by request id: open jobs, and ended ones still being written out
        self._acked = clock()
        self._stopping = False

    # ---------------------------------------------------------------- requests

    @property
    def open_jobs(self) -> int:
        return len(self._intake.jobs)

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def bridges(self) -> list[Bridge]:
        """Connected, or away for less than the grace."""
        return list(self._bridges.values())

    def connected(self) -> list[Bridge]:
        return [bridge for bridge in self._bridges.values() if bridge.link is not None]

    def keys(self) -> list[WorkloadKey]:
        """The fleet's private-inference keys, each once."""
        return list({key.kid: key for bridge in self.connected() for key in bridge.keys}.values())

    def open(self, request_id: str, ask: Ask, key: ApiKey) -> Job:
        """Send the request to a bridge; the caller must `leave` the job in the end.

        Raises PendraError when it has no place, or does not fit a frame.
        """
        if self._stopping:
            raise UnavailableError("the API is stopping; send the request again", code="draining", retry_after=5)
        preferred = self._affinity.get(ask.affinity) if ask.affinity else None
        views = [bridge.view() for bridge in self.connected()]
        chosen = place(
            ask.kind,
            ask.model,
            views,
            pin=ask.pin,
            kids=ask.kids,
            labels=ask.labels,
            preferred=preferred,
            catalogue=self._catalogue,
        )
        job = Job(request_id, ask, bridge=chosen, key_id=key.id, created=int(self._wall()), now=self._clock())
        self._submit(job)
        self._intake.jobs[job.id] = self._answering[request_id] = job
        self._remember(ask.affinity, chosen)
        return job

    def leave(self, job: Job) -> None:
        """The handler is through with the job; if it is still open, nothing more is wanted of it. Idempotent."""
        self._answering.pop(job.request_id, None)
        self.cancel(job)

    def cancel(self, job: Job) -> None:
        """The client went away. Idempotent."""
        if job.state is JobState.OPEN:
            self._intake.cancel(job)
            job.mailbox.put(Sign.GONE)

    def _submit(self, job: Job) -> None:
        total = self._timers.total_s(job.ask.kind)
        text = encode(job.frame(None if total is None else self._wall() + total))
        if len(text) > self._limits.frame_bytes // 4 and len(text.encode()) > self._limits.frame_bytes:
            raise BadRequestError(
                f"the request is larger than the {self._limits.frame_bytes:,} bytes that fit one message to a worker",
                code="request_too_large",
            )
        self._bridges[job.bridge].send(text)
        if job.ask.parts:
            job_id = job.id  # another one when it has to start over
            wanted = partial(_waits, job, job_id)
            self._bridges[job.bridge].send_slowly(frames(job_id, job.ask.parts, wanted))

    def _remember(self, affinity: str | None, bridge: BridgeId) -> None:
        if affinity:
            self._affinity[affinity] = bridge
            self._affinity.move_to_end(affinity)
            if len(self._affinity) > AFFINITIES_KEPT:
                self._affinity.popitem(last=False)

    # ---------------------------------------------------------------- bridges

    def connect(self, hello: Hello, link: Link) -> Bridge | None:
        """A bridge has proved itself. None when the API is stopping; the link is closed then."""
        if self._stopping:
            link.close(CloseCode.SHUTTING_DOWN, "the API is stopping")
            return None
        bridge = self._bridges.get((hello.public_key, hello.worker_id))
        if bridge is None:
            bridge = Bridge(hello, link)
            self._bridges[bridge.id] = bridge
        else:
            if bridge.link is not None:
                bridge.link.close(CloseCode.REPLACED, "another connection of this key and worker id took over")
            bridge.link, bridge.away_since = link, None
        marks = self._intake.marks(bridge.id)
        bridge.unconfirmed = frozenset(mark.job_id for mark in marks)
        installs = self.installs.marks(bridge.id)
        bridge.send(encode(Welcome(session=secrets.token_hex(8), resume=(*marks, *installs))))
        self.installs.welcomed(bridge.id)
        event(
            log,
            logging.INFO,
            "bridge.connected",
            worker_id=hello.worker_id,
            version=hello.version,
            resumed=len(marks),
        )
        return bridge

    def disconnected(self, bridge: Bridge, link: Link) -> None:
        """The link is gone. Its jobs wait for the bridge to come back, up to the grace."""
        if bridge.link is link:
            bridge.link, bridge.away_since = None, self._clock()
            event(log, logging.WARNING, "bridge.disconnected", worker_id=bridge.worker_id)

    def cut_off(self, public_keys: Container[str]) -> None:
        """These keys were revoked: their links close now, and what they worked on ends with an error."""
        for bridge in [bridge for bridge in self._bridges.values() if bridge.id[0] in public_keys]:
            event(log, logging.WARNING, "bridge.cut_off", worker_id=bridge.worker_id)
            link, bridge.link = bridge.link, None  # what it still says is not listened to
            if link is not None:
                link.close(CloseCode.REVOKED, "this worker key was revoked; give this host a new one")
            self._forget(bridge, "was cut off (its key was revoked)")

    def received(self, bridge: Bridge, link: Link, text: str) -> None:
        """One message of the bridge. Raises BadRequestError when it is no frame."""
        frame = decode(text)
        if bridge.link is not link:
            return
        match frame:
            case list():
                self._intake.chunks(bridge, frame)
            case ProgressFrame() | ResultFrame() | ErrorFrame() | UsageFrame():
                if not self.installs.frame(bridge.id, frame):
                    self._intake.frame(bridge, frame)
            case Blob():
                self._intake.blob(bridge, frame)
            case Accepted():
                self._intake.heard(bridge, frame.job_id)
            case Workers() | Models() | Capacity() | Keys():
                bridge.advertise(frame)
            case Resume():
                self._resumed(bridge, frame)
            case AuditCheckpoint():
                self._checkpoints.keep(bridge.id, frame)
            case _:
                event(log, logging.WARNING, "frame.unexpected", frame=frame.type, worker_id=bridge.worker_id)

    def _tell(self, bridge_id: BridgeId, text: str) -> None:
        """A bridge that is away hears it by other ways when it is back."""
        bridge = self._bridges.get(bridge_id)
        if bridge is not None:
            bridge.send(text)

    def _resumed(self, bridge: Bridge, frame: Resume) -> None:
        """After a reconnect: what the bridge no longer holds starts over or fails, what nobody wants is cancelled."""
        held = {mark.job_id for mark in frame.jobs}
        lost = [job for job_id in bridge.unconfirmed - held if (job := self._intake.jobs.get(job_id))]
        bridge.unconfirmed = frozenset()
        for job_id in held - self._intake.jobs.keys():
            bridge.send(encode(Cancel(job_id=job_id)))
        for job in lost:
            if job.may_start_over and job.resends < MAX_RESENDS:
                self._send_again(job)
            else:
                self._intake.fail(job, problem_of(_lost("was restarted and lost this request")))

    def _send_again(self, job: Job) -> None:
        del self._intake.jobs[job.id]
        job.start_over(job.resends + 1)
        job.heard = self._clock()
        self._intake.jobs[job.id] = job
        self._submit(job)
        event(log, logging.WARNING, "job.resent", request_id=job.request_id, resends=job.resends)

    # ---------------------------------------------------------------- time and the end

    def tick(self) -> None:
        """Acknowledgements, silence, bridges that stay away. Call every `tick_s`."""
        now = self._clock()
        if now - self._acked >= self._timers.ack_every_s:
            self._acked = now
            self._intake.send_acks()
        self.installs.expire()
        for job in list(self._answering.values()):
            self._look_at(job, now)
        for bridge in list(self._bridges.values()):
            if bridge.away_since is not None and now - bridge.away_since > self._timers.bridge_grace_s:
                self._forget(bridge)

    def _look_at(self, job: Job, now: float) -> None:
        if job.state is not JobState.OPEN:  # ended, but its handler is not through
            if is_stalled(job, now, self._timers):
                self._drop_reader(job)
            return
        verdict = judge(job, now, self._timers, self._limits)
        if verdict is Verdict.KEEP_ALIVE:
            job.nudged = now
            job.mailbox.put(Sign.KEEP_ALIVE)
        elif verdict is Verdict.TIMED_OUT:
            self._intake.fail(job, problem_of(JobTimeoutError(timeout_words(job, self._timers))), stop=True)
        elif verdict is Verdict.READER_TOO_SLOW:
            words = f"the client left {job.mailbox.unread} bytes of the reply unread"
            self._intake.fail(job, problem_of(JobTimeoutError(words, code="reader_too_slow")), stop=True)
            self._drop_reader(job)

    def _drop_reader(self, job: Job) -> None:
        """The handler is stuck in writing to a client that does not read: that is all one can do."""
        event(log, logging.WARNING, "reader.dropped", request_id=job.request_id, unread=job.mailbox.unread)
        if job.reader is not None:
            job.dropped = True
            job.reader.cancel()

    def _forget(self, bridge: Bridge, why: str = "went away and did not come back") -> None:
        del self._bridges[bridge.id]
        mine = [job for job in self._intake.jobs.values() if job.bridge == bridge.id]
        for job in mine:
            self._intake.fail(job, problem_of(_lost(why)))
        event(log, logging.ERROR, "bridge.lost", worker_id=bridge.worker_id, jobs=len(mine))

    def shut_down(self) -> None:
        """End every request and every link. Idempotent."""
        self._stopping = True
        stopping = UnavailableError(
            "the API was stopped; send the request again", code="draining", retry_after=RETRY_STOPPING_S
        )
        for job in list(self._intake.jobs.values()):
            self._intake.fail(job, problem_of(stopping), stop=True)
        for bridge in self.connected():
            if bridge.link is not None:
                bridge.link.close(CloseCode.SHUTTING_DOWN, "the API is stopping")


def _waits(job: Job, job_id: str) -> bool:
    return job.state is JobState.OPEN and job.id == job_id


def _lost(what: str) -> WorkerError:
    return WorkerError(f"the bridge that ran this request {what}; send the request again", code="worker_lost")
