"""Which bridge a request goes to, and its way there. Sans-I/O; the event loop's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from bridge.protocol import encode
from ops.controlplane.jobs import Ask, Job, JobState
from ops.controlplane.parts import frames
from ops.controlplane.placement import BridgeId, place
from tasks.errors import BadRequestError

if TYPE_CHECKING:
    from ops.controlplane.bridges import Bridge
    from ops.controlplane.config import Config

AFFINITIES_KEPT = 10_000


class Sender:
    """`bridges` are those that the hub knows, kept by the hub. `wall` is what deadlines are in."""

    def __init__(
        self,
        config: Config,
        bridges: Mapping[BridgeId, Bridge],
        catalogue: Container[str],
        wall: Callable[[], float],
    ) -> None:
        self._timers, self._limits = config.timers, config.limits
        self._bridges = bridges
        self._catalogue = catalogue
        self._wall = wall
        self._affinity: OrderedDict[str, BridgeId] = OrderedDict()

    def choose(self, ask: Ask, connected: Iterable[Bridge]) -> BridgeId:
        """The bridge for a request. Raises PendraError when it has no place."""
        preferred = self._affinity.get(ask.affinity) if ask.affinity else None
        return place(
            ask.kind,
            ask.model,
            [bridge.view() for bridge in connected],
            pin=ask.pin,
            kids=ask.kids,
            labels=ask.labels,
            preferred=preferred,
            catalogue=self._catalogue,
        )

    def send(self, job: Job) -> None:
        """To the job's bridge. Raises BadRequestError when it does not fit a frame."""
        total = self._timers.total_s(job.ask.kind)
        text = encode(job.frame(None if total is None else self._wall() + total))
        if len(text) > self._limits.frame_bytes // 4 and len(text.encode()) > self._limits.frame_bytes:
            raise BadRequestError(
                f"the request is larger than the {self._limits.frame_bytes:,} bytes that fit one message to a worker",
                code="request_too_large",
            )
        bridge = self._bridges[job.bridge]
        bridge.send(text)
        if job.ask.parts:
            job_id = job.id  # another one when it has to start over
            bridge.send_slowly(frames(job_id, job.ask.parts, partial(_waits, job, job_id)))

    def remember(self, affinity: str | None, bridge: BridgeId) -> None:
        """The next request with this affinity prefers this bridge."""
        if affinity:
            self._affinity[affinity] = bridge
            self._affinity.move_to_end(affinity)
            if len(self._affinity) > AFFINITIES_KEPT:
                self._affinity.popitem(last=False)


def _waits(job: Job, job_id: str) -> bool:
    return job.state is JobState.OPEN and job.id == job_id
