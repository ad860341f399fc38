"""What affinity saves: `python -m bench.affinity`. A replay of conversations of several turns, in simulated time.

The bridge's own scheduler and fleet decide (`bridge.scheduler`), or, for comparison, a round robin over the same free
slots. A worker is a number of slots, a speed, and a KV cache of so many tokens that drops the conversation unused for
longest. A turn's prompt is everything said before; what of it is in the worker's cache need not be computed.

Printed: how many later turns found their conversation in the worker's cache, the part of all prompt tokens that was
not computed, and the busiest worker's slot time as a multiple of the mean.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from bridge.fleet import Fleet
from bridge.placement import Need
from bridge.scheduler import Scheduler, Waiting
from tasks.contract import ModelInfo, Priority, WorkerInfo

MODEL = "m"
NEED = Need(MODEL)


@dataclass(frozen=True, slots=True)
class Site:
    """Seconds and tokens. `think_s`: from an answer to the next question; `apart_s`: between new conversations."""

    workers: int = 4
    slots: int = 4
    cache_tokens: int = 40_000
    conversations: int = 400
    turns: float = 6.0
    first_tokens: int = 900
    question_tokens: int = 60
    reply_tokens: int = 180
    think_s: float = 20.0
    apart_s: float = 2.5
    prefill_per_s: float = 1500.0
    decode_per_s: float = 40.0


@dataclass(slots=True)
class Talk:
    """A conversation: the prompt and reply tokens of the turns to come, and how much was said."""

    name: str
    turns: deque[tuple[int, int]]
    said: int = 0
    begun: bool = False


@dataclass(slots=True)
class Box:
    """A worker's cache and what it has done."""

    room: int
    cache: OrderedDict[str, int] = field(default_factory=OrderedDict)
    busy_s: float = 0.0

    def run(self, talk: Talk, prompt: int, reply: int) -> int:
        """Tokens of the prompt that were in the cache; now all of it is, and the reply."""
        cached = min(self.cache.pop(talk.name, 0), prompt)
        self.cache[talk.name] = prompt + reply
        while sum(self.cache.values()) > self.room and len(self.cache) > 1:
            self.cache.popitem(last=False)
        return cached


@dataclass(frozen=True, slots=True)
class Outcome:
    """`hit_rate`: of turns after the first; `saved`: of all prompt tokens; `busiest`: slot time ÷ the mean's."""

    hit_rate: float
    saved: float
    busiest: float
    ttft_s: float


class Ours:
    """The bridge's scheduler, told of slots and conversations as the session tells it."""

    def __init__(self, site: Site) -> None:
        self._fleet = Fleet()
        self._scheduler = Scheduler(self._fleet)
        for number in range(site.workers):
            self._fleet.upsert(_info(f"w{number}", site.slots), 0.0)

    def add(self, job_id: str, talk: Talk, now: float) -> None:
        # a tenant of its own each, so that turns are taken in order of arrival, as in the round robin
        self._scheduler.add(Waiting(job_id, NEED, talk.name, Priority.INTERACTIVE, now, affinity=talk.name))

    def release(self, now: float) -> Iterator[tuple[str, str]]:
        for go in self._scheduler.release(now):
            yield go.job_id, go.plan.candidates[0][0]

    def began(self, talk: Talk, worker_id: str) -> None:
        self._scheduler.affinity.ran(talk.name, talk.name, worker_id)

    def ended(self, job_id: str, talk: Talk) -> None:
        self._fleet.drop(job_id)
        self._scheduler.settled(talk.name)


class RoundRobin:
    """The next worker in the ring that has a free slot."""

    def __init__(self, site: Site) -> None:
        self._free = {f"w{number}": site.slots for number in range(site.workers)}
        self._ring = itertools.cycle(self._free)
        self._waiting: deque[str] = deque()
        self._where: dict[str, str] = {}

    def add(self, job_id: str, talk: Talk, now: float) -> None:  # noqa: ARG002  # the interface of `Ours`
        self._waiting.append(job_id)

    def release(self, now: float) -> Iterator[tuple[str, str]]:  # noqa: ARG002
        while self._waiting and any(self._free.values()):
            worker_id = next(one for one in self._ring if self._free[one])
            self._free[worker_id] -= 1
            job_id = self._waiting.popleft()
            self._where[job_id] = worker_id
            yield job_id, worker_id

    def began(self, talk: Talk, worker_id: str) -> None: ...

    def ended(self, job_id: str, talk: Talk) -> None:  # noqa: ARG002
        self._free[self._where.pop(job_id)] += 1


def replay(site: Site, policy: Ours | RoundRobin, seed: int) -> Outcome:
    """One run of all conversations. The same seed gives both policies the same conversations."""
    run = Run(site, policy, seed)
    while run.events:
        run.step()
    return run.outcome()


class Run:
    """`events`: (when, order, the job that ends or "" for a turn that begins, whose), the next one first."""

    def __init__(self, site: Site, policy: Ours | RoundRobin, seed: int) -> None:
        self._site, self._policy = site, policy
        self._think = random.Random(seed + 1)
        self._boxes = {f"w{number}": Box(site.cache_tokens) for number in range(site.workers)}
        self._ids = itertools.count()
        self._waiting: dict[str, tuple[Talk, float]] = {}
        self._later = self._hits = self._prompts = self._saved = 0
        self._firsts: list[float] = []
        self.events: list[tuple[float, int, str, Talk]] = []
        rng, at = random.Random(seed), 0.0
        for number in range(site.conversations):
            at += rng.expovariate(1 / site.apart_s)
            self._plan(at, "", _talk(f"c{number}", site, rng))

    def step(self) -> None:
        now, _, ended, talk = heapq.heappop(self.events)
        if ended:
            self._ended(now, ended, talk)
        else:
            self._asked(now, talk)
        for job_id, worker_id in self._policy.release(now):
            self._serve(now, job_id, worker_id)

    def outcome(self) -> Outcome:
        load = [box.busy_s for box in self._boxes.values()]
        hit_rate, saved = self._hits / max(self._later, 1), self._saved / self._prompts
        return Outcome(hit_rate, saved, max(load) / fmean(load), fmean(self._firsts))

    def _plan(self, at: float, job_id: str, talk: Talk) -> None:
        heapq.heappush(self.events, (at, next(self._ids), job_id, talk))

    def _ended(self, now: float, job_id: str, talk: Talk) -> None:
        self._policy.ended(job_id, talk)
        if talk.turns:
            self._plan(now + self._think.expovariate(1 / self._site.think_s), "", talk)

    def _asked(self, now: float, talk: Talk) -> None:
        job_id = f"j{next(self._ids)}"
        self._waiting[job_id] = (talk, now)
        self._policy.add(job_id, talk, now)

    def _serve(self, now: float, job_id: str, worker_id: str) -> None:
        talk, asked = self._waiting.pop(job_id)
        self._policy.began(talk, worker_id)
        question, reply = talk.turns.popleft()
        prompt, box = talk.said + question, self._boxes[worker_id]
        cached = box.run(talk, prompt, reply)
        self._count(talk, prompt, cached)
        first = (prompt - cached) / self._site.prefill_per_s
        self._firsts.append(now - asked + first)
        took = first + reply / self._site.decode_per_s
        box.busy_s += took
        talk.said, talk.begun = prompt + reply, True
        self._plan(now + took, job_id, talk)

    def _count(self, talk: Talk, prompt: int, cached: int) -> None:
        self._later += talk.begun
        self._hits += talk.begun and cached > 0
        self._prompts += prompt
        self._saved += cached


def _talk(name: str, site: Site, rng: random.Random) -> Talk:
    """Lengths are exponential: a few conversations are much longer than the rest."""
    count = 1 + int(rng.expovariate(1 / (site.turns - 1)))

    def near(mean: int) -> int:
        return 1 + int(rng.expovariate(1 / mean))

    first = (near(site.first_tokens), near(site.reply_tokens))
    return Talk(
        name, deque([first, *((near(site.question_tokens), near(site.reply_tokens)) for _ in range(count - 1))])
    )


def _info(worker_id: str, slots: int) -> WorkerInfo:
    models = (ModelInfo(id=MODEL, loaded=True),)
    about = {"name": worker_id, "node": worker_id, "pid": 1, "version": "1", "device": "gpu0"}
    return WorkerInfo(worker_id=worker_id, epoch="e", slots_total=slots, models=models, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--conversations", type=int, default=400)
    args = parser.parse_args()
    print("workers  conversations/s  policy       hit rate  prefill saved  busiest÷mean  mean s to first token")
    for workers, apart_s in ((3, 10.0), (3, 3.0), (3, 2.2), (4, 2.5), (8, 1.0)):
        site = Site(workers=workers, apart_s=apart_s, conversations=args.conversations)
        for name, make in (("affinity", Ours), ("round robin", RoundRobin)):
            rows = [replay(site, make(site), seed) for seed in range(args.seeds)]
            print(
                f"{workers:>7}  {1 / apart_s:>15.2f}  {name:<11}  {fmean(r.hit_rate for r in rows):>8.1%}  "
                f"{fmean(r.saved for r in rows):>13.1%}  {max(r.busiest for r in rows):>12.2f}  "
                f"{fmean(r.ttft_s for r in rows):>21.2f}"
            )


if __name__ == "__main__":
    main()
