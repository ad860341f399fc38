"""The session's model with labels: some workers carry some, some jobs demand some, and one backend is preferred.

Messages go through queues as in Redis: a worker's own, and the model's, which every worker that has it consumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.effects import Effect, Enqueue
from tasks import keys
from tasks.contract import BUILT_IN, Job, ModelInfo, WorkerInfo
from tests.bridge.builders import job
from tests.bridge.model_worker import Worker
from tests.bridge.model_world import World

LABELS = {"w0": ("phi", "on-prem"), "w1": ("phi",), "w2": ("batch",), "w3": ()}
BACKENDS = {"w3": "vllm"}


class LabelledWorker(Worker):
    @property
    def info(self) -> WorkerInfo:
        model = ModelInfo(id="m", loaded=True, backend=BACKENDS.get(self.id, BUILT_IN))
        return super().info.model_copy(update={"labels": LABELS[self.id], "models": (model,)})


@dataclass
class Demand:
    labels: frozenset[str]
    served_by: set[str] = field(default_factory=set)


class LabelledWorld(World):
    """AssertionError: a job was offered to, or taken by, a worker without its labels."""

    def __init__(self) -> None:
        self.demands: dict[str, Demand] = {}
        self.queues: dict[tuple[str, int], str] = {}
        super().__init__(workers=len(LABELS), slots=1)
        self.workers = {name: LabelledWorker(name, 1) for name in LABELS}
        self.tick(0.0)

    def ask(self, tokens: int, *, stream: bool, labels: frozenset[str], talk: str, pin: str | None) -> None:
        name = self.api.ask(tokens, stream=stream)
        self.demands[name] = Demand(labels)
        if self.linked:
            fields = {"labels": tuple(sorted(labels)), "affinity": talk, "tenant": "t", "pin": pin}
            self._do(self.session.frame(job(name, body={"n": tokens}, stream=stream, **fields), self.now))

    def _may(self, job_id: str, worker_id: str) -> bool:
        return self.demands[job_id].labels.issubset(LABELS[worker_id])

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Enqueue):
            self.queues[effect.job_id, effect.attempt] = effect.queue
        super()._carry_out(effect)

    def _acquire(self, wanted: Job, candidates: tuple[tuple[str, int], ...]) -> None:
        assert set(wanted.labels) == self.demands[wanted.job_id].labels
        for worker_id, _slots in candidates:
            assert self._may(wanted.job_id, worker_id), (wanted.job_id, worker_id)
        super()._acquire(wanted, candidates)

    def claim(self, worker_id: str) -> None:
        """The first message of a queue that this worker consumes."""
        consumed = {keys.worker_queue(worker_id), keys.model_queue("m")}
        messages = self.redis.messages
        mine = [message for message in messages if self.queues[message] in consumed]
        if not mine:
            return
        messages.remove(mine[0])
        messages.insert(0, mine[0])
        before = set(self.workers[worker_id].runs)
        super().claim(worker_id)
        for job_id, _attempt in set(self.workers[worker_id].runs) - before:
            assert self._may(job_id, worker_id), (job_id, worker_id)
            self.demands[job_id].served_by.add(worker_id)
