"""Who waits, and who goes next. Pure: no clock, no Redis, no asyncio.

Jobs with equal needs wait in one *lane*; inside it each (tenant, priority) has a queue in order of arrival. Next is
the head with the best rank among the lanes that have room:

1. interactive before batch; a batch job that waited AGE_S counts as interactive;
2. the tenant with the fewest running jobs (so tenants share slots evenly, however many jobs each sends);
3. the tenant served longest ago; then the oldest job.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.fleet import Fleet
from bridge.placement import Need, Plan, eligible, plan
from tasks.contract import Priority

AGE_S = 30.0
RETRY_S = 0.05  # a lane whose slots turned out to be taken by another bridge is tried again after this
NO_WORKER_GRACE_S = 30.0  # a worker that died may be back, restarted by its supervisor


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits. `avoid`: the worker that lost its last attempt."""

    job_id: str
    need: Need
    tenant: str
    priority: Priority
    arrived: float
    avoid: str = ""

    def rank_class(self, now: float) -> int:
        return 0 if self.priority is Priority.INTERACTIVE or now - self.arrived >= AGE_S else 1


@dataclass(frozen=True, slots=True)
class Go:
    """Release this job along this plan. It no longer waits, and its slot is counted on the first candidate."""

    job_id: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class NoWorker:
    """No worker could run this job for NO_WORKER_GRACE_S. It no longer waits."""

    job_id: str


Queue = OrderedDict[str, Waiting]


@dataclass(slots=True)
class Lane:
    queues: dict[tuple[str, Priority], Queue] = field(default_factory=dict)
    blocked_until: float = 0.0
    orphaned: float | None = None

    def heads(self) -> Iterator[Waiting]:
        return (next(iter(queue.values())) for queue in self.queues.values())


class Scheduler:
    """Holds the waiting jobs and releases them against free slots of the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lanes: dict[Need, Lane] = {}
        self._waiting: dict[str, Waiting] = {}
        self._running: Counter[str] = Counter()
        self._served: dict[str, int] = {}
        self._turn = 0

    @property
    def depth(self) -> int:
        return len(self._waiting)

    def ahead_of(self, need: Need) -> int:
        """How many jobs wait for the same workers."""
        lane = self._lanes.get(need)
        return sum(len(queue) for queue in lane.queues.values()) if lane else 0

    def add(self, job: Waiting, *, first: bool = False, blocked_until: float = 0.0) -> None:
        """Wait at the end of the queue, or `first` for one that was released already."""
        lane = self._lanes.setdefault(job.need, Lane())
        queue = lane.queues.setdefault((job.tenant, job.priority), OrderedDict())
        queue[job.job_id] = job
        if first:
            queue.move_to_end(job.job_id, last=False)
        lane.blocked_until = max(lane.blocked_until, blocked_until)
        self._waiting[job.job_id] = job

    def remove(self, job_id: str) -> bool:
        """Stop waiting. False when the job did not wait."""
        job = self._waiting.pop(job_id, None)
        if job is None:
            return False
        lane = self._lanes[job.need]
        queue = lane.queues[job.tenant, job.priority]
        del queue[job_id]
        if not queue:
            del lane.queues[job.tenant, job.priority]
        if not lane.queues:
            del self._lanes[job.need]
        return True

    def adopted(self, tenant: str) -> None:
        """A job of this tenant runs already: a predecessor released it."""
        self._running[tenant] += 1

    def settled(self, tenant: str) -> None:
        """A released job of this tenant ended, or waits again."""
        self._running[tenant] -= 1
        if self._running[tenant] <= 0:
            del self._running[tenant]
            self._served.pop(tenant, None)

    def release(self, now: float) -> list[Go]:
        """Everything that can go now, best first. Each Go already holds its slot in the fleet."""
        out: list[Go] = []
        open_lanes = {need: lane for need, lane in self._lanes.items() if lane.blocked_until <= now}
        while open_lanes:
            job = min(
                (head for lane in open_lanes.values() for head in lane.heads()), key=lambda j: self._rank(j, now)
            )
            route = plan(job.need, self._fleet, job.avoid)
            if route is None:
                del open_lanes[job.need]
                continue
            out.append(self._go(job, route))
            if job.need not in self._lanes:
                del open_lanes[job.need]
        return out

    def orphans(self, now: float) -> list[NoWorker]:
        """Jobs whose lane has had no possible worker for NO_WORKER_GRACE_S."""
        lost: list[str] = []
        for need, lane in self._lanes.items():
            if eligible(need, self._fleet):
                lane.orphaned = None
            elif lane.orphaned is None:
                lane.orphaned = now
            elif now - lane.orphaned >= NO_WORKER_GRACE_S:
                lost += [job_id for queue in lane.queues.values() for job_id in queue]
        for job_id in lost:
            self.remove(job_id)
        return [NoWorker(job_id) for job_id in lost]

    def _go(self, job: Waiting, route: Plan) -> Go:
        self.remove(job.job_id)
        self._fleet.hold(job.job_id, route.candidates[0][0], job.need.model)
        self._turn += 1
        self._served[job.tenant] = self._turn
        self._running[job.tenant] += 1
        return Go(job.job_id, route)

    def _rank(self, job: Waiting, now: float) -> tuple[int, int, int, float]:
        return job.rank_class(now), self._running[job.tenant], self._served.get(job.tenant, 0), job.arrived
