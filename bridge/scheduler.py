"""Who waits, and who goes next. Pure: no clock, no Redis, no asyncio.

Jobs with equal needs wait in one *lane*; inside it each (tenant, priority) has a queue in order of arrival. Next is
the head with the best rank among the lanes that have room:

1. interactive before batch; a batch job that waited AGE_S counts as interactive;
2. the tenant with the fewest running jobs (so tenants share slots evenly, however many jobs each sends);
3. the tenant served longest ago, where one that has just come counts as just served (else a row of newcomers could
   keep everybody else waiting for ever); then the oldest job.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from bridge.admission import Ahead
from bridge.affinity import Affinity
from bridge.fleet import Fleet
from bridge.placement import Need, Plan, eligible, plan
from tasks.contract import Priority

AGE_S = 30.0
RETRY_S = 0.05  # a lane whose slots turned out to be taken by another bridge is tried again after this
NO_WORKER_GRACE_S = 30.0  # a worker that died may be back, restarted by its supervisor


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits. `avoid`: the worker that lost its last attempt; `affinity`: see `bridge.affinity`."""

    job_id: str
    need: Need
    tenant: str
    priority: Priority
    arrived: float
    avoid: str = ""
    affinity: str | None = None

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


@dataclass(slots=True)
class Tenant:
    """One API key with jobs here. `turn`: of its last release, or of its coming."""

    turn: int
    waiting: int = 0
    running: int = 0


class Scheduler:
    """Holds the waiting jobs and releases them against free slots of the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.affinity = Affinity()
        self._lanes: dict[Need, Lane] = {}
        self._waiting: dict[str, Waiting] = {}
        self._tenants: dict[str, Tenant] = {}
        self._turn = 0

    @property
    def depth(self) -> int:
        return len(self._waiting)

    def ahead_of(self, need: Need, tenant: str, priority: Priority, now: float) -> Ahead:
        """Whom a new job would meet. `position` supposes that nobody else comes, and that jobs take equally long."""
        mine = (tenant, priority)
        lanes = [lane.queues for other, lane in self._lanes.items() if other.model == need.model]
        queues = [row for lane in lanes for row in lane.items()]
        own = sum(len(queue) for key, queue in queues if key == mine)
        return Ahead(
            waiting=self.depth,
            of_model=sum(len(queue) for _, queue in queues),
            of_key=self._tenants[tenant].waiting if tenant in self._tenants else 0,
            position=sum(_before(key, queue, mine, own, now) for key, queue in queues),
        )

    def is_empty(self, need: Need) -> bool:
        """Whether nobody waits for the same workers."""
        return need not in self._lanes

    def add(self, job: Waiting, *, first: bool = False, blocked_until: float = 0.0) -> None:
        """Wait at the end of the queue, or `first` for one that was released already."""
        lane = self._lanes.setdefault(job.need, Lane())
        queue = lane.queues.setdefault((job.tenant, job.priority), OrderedDict())
        queue[job.job_id] = job
        if first:
            queue.move_to_end(job.job_id, last=False)
        lane.blocked_until = max(lane.blocked_until, blocked_until)
        self._waiting[job.job_id] = job
        self._tenant(job.tenant).waiting += 1

    def remove(self, job_id: str) -> bool:
        """Stop waiting. False when the job did not wait."""
        job = self._waiting.pop(job_id, None)
        if job is None:
            return False
        self._tenant(job.tenant).waiting -= 1
        self._forget_idle(job.tenant)
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
        self._tenant(tenant).running += 1

    def settled(self, tenant: str) -> None:
        """A released job of this tenant ended, or waits again."""
        self._tenant(tenant).running -= 1
        self._forget_idle(tenant)

    def release(self, now: float) -> list[Go]:
        """Everything that can go now, best first. Each Go already holds its slot in the fleet."""
        out: list[Go] = []
        open_lanes = {need: lane for need, lane in self._lanes.items() if self._may_go(need, lane, now)}
        while open_lanes:
            job = min(
                (head for lane in open_lanes.values() for head in lane.heads()), key=lambda j: self._rank(j, now)
            )
            prefer = self.affinity.worker(job.tenant, job.affinity)
            route = plan(job.need, self._fleet, job.avoid, "" if prefer == job.avoid else prefer)
            if route is None:
                del open_lanes[job.need]
                continue
            out.append(self._go(job, route))
            if job.need not in self._lanes:
                del open_lanes[job.need]
        return out

    def _may_go(self, need: Need, lane: Lane, now: float) -> bool:
        """Looked at before anybody is ranked: of thousands who wait nobody goes while all slots are taken."""
        return lane.blocked_until <= now and plan(need, self._fleet) is not None

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
        self._turn += 1
        tenant = self._tenant(job.tenant)
        tenant.turn, tenant.running = self._turn, tenant.running + 1
        self.remove(job.job_id)
        self._fleet.hold(job.job_id, route.candidates[0][0], job.need.model)
        return Go(job.job_id, route)

    def _rank(self, job: Waiting, now: float) -> tuple[int, int, int, float]:
        tenant = self._tenants[job.tenant]
        return job.rank_class(now), tenant.running, tenant.turn, job.arrived

    def _tenant(self, name: str) -> Tenant:
        return self._tenants.setdefault(name, Tenant(self._turn))

    def _forget_idle(self, name: str) -> None:
        tenant = self._tenants[name]
        if tenant.waiting <= 0 and tenant.running <= 0:
            del self._tenants[name]


def _before(key: tuple[str, Priority], queue: Queue, mine: tuple[str, Priority], own: int, now: float) -> int:
    """How many jobs of this queue go before a new one of `mine`, of whose kind `own` wait. Pure."""
    (tenant, priority), (my_tenant, my_priority) = key, mine
    if key == mine:
        return len(queue)
    if my_priority is Priority.BATCH and priority is not my_priority:
        return len(queue)
    most = len(queue) if tenant == my_tenant else min(len(queue), own + 1)  # tenants take turns
    if priority is my_priority:
        return most
    return sum(job.rank_class(now) == 0 for job in islice(queue.values(), most))
