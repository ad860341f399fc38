"""Between the HTTP side and the bridges: who is connected, which request is where, what time makes of it. Sans-I/O.

Runs on the event loop, never blocks. Requests come in by `open` and out through their job's mailbox; bridges come
in by `connect` and `received`, and are spoken to through their `Link`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Container

from bridge.protocol import (
    Accepted,
    AuditCheckpoint,
    Blob,
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
from ops.controlplane.job_watch import JobWatch
from ops.controlplane.jobs import Ask, Job, JobState
from ops.controlplane.keystore import ApiKey
from ops.controlplane.mailbox import Sign
from ops.controlplane.placement import BridgeId
from ops.controlplane.resumption import Resumption, bridge_lost
from ops.controlplane.sender import Sender
from ops.controlplane.usage import UsageLog
from ops.controlplane.wire import decode
from tasks.errors import UnavailableError
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")

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
        self._timers = config.timers
        self._checkpoints = checkpoints
        self._clock, self._wall = clock, wall
        self._bridges: dict[BridgeId, Bridge] = {}
        self._sender = Sender(config, self._bridges, catalogue, wall)
        self._intake = Intake(usage, self._bridges.get, clock, config.limits.ack_every_frames)
        self._watch = JobWatch(config, self._intake)
        self._resumption = Resumption(self._intake, self._sender, clock)
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
        chosen = self._sender.choose(ask, self.connected())
        job = Job(request_id, ask, bridge=chosen, key_id=key.id, created=int(self._wall()), now=self._clock())
        self._sender.send(job)
        self._intake.jobs[job.id] = self._answering[request_id] = job
        self._sender.remember(ask.affinity, chosen)
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
        marks = self._resumption.begin(bridge)
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
                self._resumption.end(bridge, frame)
            case AuditCheckpoint():
                self._checkpoints.keep(bridge.id, frame)
            case _:
                event(log, logging.WARNING, "frame.unexpected", frame=frame.type, worker_id=bridge.worker_id)

    def _tell(self, bridge_id: BridgeId, text: str) -> None:
        """A bridge that is away hears it by other ways when it is back."""
        bridge = self._bridges.get(bridge_id)
        if bridge is not None:
            bridge.send(text)

    # ---------------------------------------------------------------- time and the end

    def tick(self) -> None:
        """Acknowledgements, silence, bridges that stay away. Call every `tick_s`."""
        now = self._clock()
        if now - self._acked >= self._timers.ack_every_s:
            self._acked = now
            self._intake.send_acks()
        self.installs.expire()
        for job in list(self._answering.values()):
            self._watch.look_at(job, now)
        for bridge in list(self._bridges.values()):
            if bridge.away_since is not None and now - bridge.away_since > self._timers.bridge_grace_s:
                self._forget(bridge)

    def _forget(self, bridge: Bridge, why: str = "went away and did not come back") -> None:
        del self._bridges[bridge.id]
        mine = [job for job in self._intake.jobs.values() if job.bridge == bridge.id]
        for job in mine:
            self._intake.fail(job, problem_of(bridge_lost(why)))
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
