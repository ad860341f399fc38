"""The storm: many streams of known text, and one fault after the other, at moments drawn from a printed seed.

`python -m tests.chaos.storm --seed 7 --minutes 30` (`make chaos`) runs it long; `test_storm` in a bounded form. What
must hold at the end is in `Verdict`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ops.controlplane.db import Database
from tasks.keys import WORKER_LEASE_S
from tests.chaos.cluster import Cluster, a_cluster, eventually
from tests.chaos.faults import LOSES_WORK, Fault, Moment, inject
from tests.chaos.readers import Manner, Readers, Reading

CLIENTS = 50
PAUSE_S = WORKER_LEASE_S + 2
_MOMENT_S = 5.0
_CALM_S = 30.0
_SHOWN = 20
_NOTICED_S = 0.5  # what was on its way still arrives
_BEGUN_S = 0.01  # a job is claimed within milliseconds


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault as it happened. `at` and `back`: monotonic seconds; `hit`: requests that were at its moment."""

    fault: Fault
    moment: Moment
    at: float
    back: float
    what: str
    hit: int


@dataclass(slots=True)
class Verdict:
    """What came of it. `broken` is empty when every promise held."""

    seed: int
    seconds: float = 0.0
    blows: list[Blow] = field(default_factory=list)
    readings: int = 0
    left: int = 0
    tokens: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    pauses: list[float] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)
    """How many jobs were ended by so many bridges."""
    broken: list[str] = field(default_factory=list)

    @property
    def pause_p95(self) -> float:
        return percentile(self.pauses, 0.95)

    def lines(self) -> Iterator[str]:
        yield f"seed {self.seed}: {self.seconds:.0f} s, {len(self.blows)} faults, {self.readings} requests"
        yield f"  {self.readings - self.left} waited for the end, {self.left} left early; {self.tokens} tokens came"
        for fault, count in sorted(Counter(str(blow.fault) for blow in self.blows).items()):
            moments = Counter(str(blow.moment) for blow in self.blows if blow.fault == fault and blow.hit)
            yield f"  {fault}: {count} ({', '.join(f'{name} {n}' for name, n in sorted(moments.items()))})"
        yield f"  asked again after a refusal: {dict(self.refused)}"
        p50, p95 = percentile(self.pauses, 0.5), self.pause_p95
        longest = max(self.pauses, default=0.0)
        yield f"  failover pauses: {len(self.pauses)}, p50 {p50:.2f} s, p95 {p95:.2f} s, longest {longest:.2f} s"
        yield f"  jobs by how many bridges ended them: {dict(sorted(self.ends.items()))}"
        yield from (f"  BROKEN: {words}" for words in self.broken[:_SHOWN])
        if len(self.broken) > _SHOWN:
            yield f"  … and {len(self.broken) - _SHOWN} more"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


# -------------------------------------------------------------------- moments


def at(moment: Moment, reading: Reading, now: float) -> bool:
    """Whether this request stands there now. Pure."""
    wish, came = reading.wish, len(reading.times)
    if reading.over or wish.manner is Manner.WHOLE:
        return False
    match moment:
        case Moment.BEFORE_CLAIM:
            return not came and now - reading.asked < _BEGUN_S
        case Moment.BEFORE_FIRST_TOKEN:
            return not came and now - reading.asked >= _BEGUN_S
        case Moment.MID_STREAM:
            return 2 < came < wish.tokens - 2
        case Moment.LAST_TOKEN:
            return wish.manner is Manner.STREAM and wish.tokens - 1 <= came
    return False


async def await_moment(moment: Moment, readers: Readers) -> int:
    """Until some request stands there; returns how many do (0: none came there in time)."""

    def there() -> list[Reading]:
        now = time.monotonic()
        return [reading for reading in readers.open if at(moment, reading, now)]

    return len(await readers.until(there, _MOMENT_S) or ())


# ---------------------------------------------------------------------- storm


def plan(rng: random.Random) -> Iterator[tuple[Fault, Moment, float]]:
    """Without end: every fault once in each round, in any order, each at some moment and after some seconds."""
    while True:
        round_of = list(Fault)
        rng.shuffle(round_of)
        for fault in round_of:
            yield fault, rng.choice(list(Moment)), rng.uniform(0.0, 1.0)


async def storm(
    home: Path, seed: int, *, seconds: float | None, faults: Sequence[Fault] = tuple(Fault), say: bool = False
) -> Verdict:
    """Run it: for `seconds`, or (None) each of the faults once."""
    verdict = Verdict(seed)
    rng = random.Random(seed)
    began = time.monotonic()
    async with a_cluster(home) as cluster:
        readers = Readers(cluster.url, cluster.key, random.Random(rng.random()), count=CLIENTS)
        await readers.until(lambda: any(reading.times for reading in readers.readings), _CALM_S)
        wanted = list(faults)
        for fault, moment, wait in plan(rng):
            if not wanted or (seconds is not None and time.monotonic() - began > seconds):
                break
            if fault not in faults:
                continue
            await asyncio.sleep(wait)
            hit = await await_moment(moment, readers)
            at_s = time.monotonic()
            what = await inject(fault, cluster, rng)
            blow = Blow(fault, moment, at_s, time.monotonic(), what, hit)
            verdict.blows.append(blow)
            if say:
                _say(f"{at_s - began:7.1f} s  {fault} ({what}) at {moment} of {hit}")
            if seconds is None:
                wanted.remove(fault)
            await _recovered(cluster, verdict)
        await readers.stop()
        verdict.seconds = time.monotonic() - began
        await _judge(verdict, cluster, readers)
    return verdict


async def _recovered(cluster: Cluster, verdict: Verdict) -> None:
    """One fault at a time: the fleet is whole again before the next."""
    verdict.broken += cluster.revive()
    try:
        await eventually(cluster.whole, _CALM_S)
    except AssertionError:
        verdict.broken.append(f"the fleet was not whole again after {verdict.blows[-1]}")


async def _judge(verdict: Verdict, cluster: Cluster, readers: Readers) -> None:
    stayed = [reading for reading in readers.readings if reading.wish.manner is not Manner.LEAVES]
    verdict.readings = len(readers.readings)
    verdict.left = verdict.readings - len(stayed)
    verdict.tokens = sum(len(reading.text) for reading in readers.readings)
    verdict.refused = readers.refused
    verdict.broken += [f"{reading.request_id}: {reading.wrong}" for reading in readers.readings if reading.wrong]
    verdict.pauses = list(_pauses(verdict.blows, readers.readings))
    verdict.broken += [words async for words in _left_behind(cluster, readers)]
    verdict.broken += _counted_twice(cluster, stayed)
    verdict.broken += _ended_once(verdict, cluster, readers.readings)


async def _left_behind(cluster: Cluster, readers: Readers) -> Iterator[str]:  # type: ignore[misc]
    try:
        await eventually(cluster.idle, _CALM_S)
    except AssertionError:
        yield f"jobs or slots are left: {cluster.overview()}"
    try:
        await eventually(lambda: not cluster.leaks(), _CALM_S)
    except AssertionError:
        yield f"keys are left in Redis: {cluster.leaks()}"


def _counted_twice(cluster: Cluster, stayed: Sequence[Reading]) -> Iterator[str]:
    """What is billed is what was said, once."""
    with closing(Database(cluster.home)) as db:
        rows = db.all("SELECT request_id, completion_tokens FROM usage")
    billed: dict[str, list[int]] = {}
    for request_id, tokens in rows:
        billed.setdefault(request_id, []).append(tokens)
    for reading in stayed:
        if not reading.wrong and billed.get(reading.request_id) != [reading.wish.tokens]:
            yield f"{reading.request_id}: billed {billed.get(reading.request_id)} for {reading.wish.tokens} tokens"


def _ended_once(verdict: Verdict, cluster: Cluster, readings: Sequence[Reading]) -> Iterator[str]:
    """Each request has an end, and no bridge process ends a job twice, as the bridges' own events say.

    One that dies after it wrote an end down, before it sent it, leaves its successor to end the job again. Clients
    see one end whatever the bridges say (`Reading.judge`).
    """
    ends: dict[str, Counter[tuple[str, int]]] = {}
    for bridge in cluster.bridges:
        for row in bridge.events("job.ended"):
            ends.setdefault(request_of(row["job_id"]), Counter())[row["job_id"], row["pid"]] += 1
    for reading in readings:
        by = ends.get(reading.request_id, Counter())
        verdict.ends[len({pid for _, pid in by})] += 1
        if not by:
            yield f"{reading.request_id}: no bridge ended it ({reading.wish.manner}, {len(reading.times)} chunks)"
    for by in ends.values():
        yield from (f"{job_id}: process {pid} ended it {n} times" for (job_id, pid), n in by.items() if n > 1)


def request_of(job_id: str) -> str:
    """A request that a bridge lost before anything was said goes out again as `<request>.1`, `.2` …"""
    return job_id.partition(".")[0]


def _pauses(blows: Sequence[Blow], readings: Sequence[Reading]) -> Iterator[float]:
    """How long the streams stood still that a lost worker had, from its loss to their next token.

    Pauses that the next fault made longer are left out.
    """
    ends = [blow.at for blow in blows[1:]] + [float("inf")]
    for blow, end in zip(blows, ends, strict=True):
        if blow.fault in LOSES_WORK:
            gaps = (gap for reading in readings for gap in zip(reading.times, reading.times[1:], strict=False))
            hit = (gap for gap in gaps if gap[0] <= blow.at + _NOTICED_S and blow.at + 2 * _NOTICED_S <= gap[1] < end)
            yield from (after - max(before, blow.at) for before, after in hit)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same faults")
    parser.add_argument("--minutes", type=float, default=10.0)
    asked = parser.parse_args()
    seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    _say(f"seed {seed}, logs in {home}")
    verdict = asyncio.run(storm(home, seed, seconds=60 * asked.minutes, say=True))
    if verdict.pause_p95 > PAUSE_S:
        verdict.broken.append(f"95 % of the failover pauses should be within {PAUSE_S:g} s")
    for line in verdict.lines():
        _say(line)
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
