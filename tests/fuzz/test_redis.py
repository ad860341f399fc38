"""What stands in Redis, changed by somebody who can write there but has no key."""

from __future__ import annotations

import json
import logging
from collections import Counter
from random import Random
from typing import Any

import msgpack
import pytest
from pydantic import ValidationError

from bridge.fleet import Gone, decode_fleet
from bridge.install_watch import _object
from tasks import events
from tasks.contract import Job, WorkerInfo
from tasks.errors import SealError
from tasks.sealing import Opener, payload_aad
from tests.bridge.builders import FLEET_KEY, SEALER, Driven, chunk, claimed, finished, worker
from tests.fuzz.cases import Fuzzer, quotes_nothing, refused_well
from tests.fuzz.mutation import as_bytes, damaged, mutated
from worker.control import parse

SECRET = "quartzplume"
OPENER = Opener(FLEET_KEY)
PIECE = json.dumps({"choices": [{"delta": {"content": SECRET}}]})


def batch(driven: Driven, job_id: str) -> list[Any]:
    """The rows of a good batch about a running job, its next events."""
    record = driven.session._ledger.jobs.open[job_id]
    at = record.next_seq, record.attempt
    said = [chunk(at[0], PIECE, job_id, at[1]), chunk(at[0] + 1, PIECE, job_id, at[1])]
    return list(msgpack.unpackb(events.pack("w1", said, SEALER)))


def changed(rows: list[Any], rng: Random) -> bytes:
    way = rng.randrange(4)
    if way == 0:
        return damaged(msgpack.packb(rows), rng)
    version, worker_id, said = rows
    if way == 1:  # as it was sealed, but said of another job, attempt or place
        row = rng.choice(said)
        row[rng.randrange(3)] = rng.choice((0, 1, 7, -1, "j1", "j2", 2**63, 1.5, float("inf"), None, b"j1"))
    elif way == 2:
        row = rng.choice(said)
        row[3] = damaged(row[3], rng)
    else:
        rows = [
            rng.choice((version, 0, None, "1")),
            rng.choice((worker_id, 7, None)),
            rng.choice((said, [], 5, [[]])),
        ]
    try:
        return bytes(msgpack.packb(rows))
    except OverflowError:
        return b""


def test_batches_of_events(fuzzer: Fuzzer, caplog: pytest.LogCaptureFixture) -> None:
    """No text that the worker did not say of this job and place reaches the API."""
    caplog.set_level(logging.CRITICAL, "pendra")
    driven = Driven(worker("w1", slots=4))
    seen: Counter[str] = Counter()
    number = 0

    def case(rng: Random) -> None:
        nonlocal number
        ledger = driven.session._ledger
        if not ledger.jobs.open:
            number += 1
            driven.start(f"j{number}", worker_id="w1")
        job_id = next(iter(ledger.jobs.open))
        raw = changed(batch(driven, job_id), rng) if rng.random() < 0.8 else msgpack.packb(batch(driven, job_id))
        try:
            got = events.unpack(raw)
        except SealError as exc:
            seen["refused"] += 1
            refused_well(exc, exc.code, SECRET)
            return
        seen["unpacked"] += 1
        driven.clear()
        driven.do(driven.session.events(got, driven.now))
        assert all(one["data"] == PIECE for frame in driven.of("chunk") for one in frame["events"])
        seen["chunk"] += len(driven.of("chunk"))
        seen["error"] += len(driven.of("error"))
        driven.tick(0.0, worker("w1", slots=4))
        if rng.random() < 0.1 and job_id in ledger.jobs.open:
            record = ledger.jobs.open[job_id]
            driven.events(finished(record.next_seq, job_id, record.attempt))

    fuzzer.run(case, sample=800, all_of_them=12_000)
    assert all(seen[kind] > 5 for kind in ("refused", "unpacked", "chunk", "error")), seen


def test_payloads_of_jobs(fuzzer: Fuzzer) -> None:
    job = Job(job_id="j", model="m", body={"messages": SECRET}, created=1, bridge_id="b")
    sealed = SEALER.seal(job.model_dump_json().encode(), payload_aad("j"))
    seen: Counter[str] = Counter()

    def case(rng: Random) -> None:
        raw = rng.choice((damaged(sealed, rng), rng.randbytes(rng.randrange(90)), sealed))
        try:
            plain = OPENER.open(raw, payload_aad(rng.choice(("j", "j", "k"))))
        except SealError as exc:
            seen["refused"] += 1
            refused_well(exc, exc.code, SECRET)
        else:
            seen["opened"] += 1
            assert Job.model_validate_json(plain) == job
            assert raw == sealed

    fuzzer.run(case, sample=800, all_of_them=12_000)
    assert min(seen.values()) > 20, seen


def test_what_a_sealed_job_may_hold(fuzzer: Fuzzer) -> None:
    """Another build with our key may write what we do not understand: a ValidationError without its words."""
    good = Job(job_id="j", model="m", body={"messages": SECRET}, created=1, bridge_id="b").model_dump(mode="json")

    def case(rng: Random) -> None:
        try:
            Job.model_validate_json(as_bytes(mutated(good, rng), rng))
        except ValidationError as exc:
            quotes_nothing(exc, SECRET)

    fuzzer.run(case, sample=300, all_of_them=5_000)


def test_beats_and_commands(fuzzer: Fuzzer) -> None:
    beat = json.loads(worker("w1", slots=2).model_dump_json())
    gone = {"gone": "w1"}
    commands = (
        {"op": "cancel", "job_id": "j", "attempt": 1},
        {"op": "unload", "model": "m", "force": True, "answers": "k"},
        {"op": "restore", "model": "m"},
        {"op": "drain"},
    )
    driven = Driven()

    def case(rng: Random) -> None:
        parse(as_bytes(mutated(rng.choice(commands), rng), rng))
        news = decode_fleet(as_bytes(mutated(rng.choice((beat, beat, gone)), rng), rng))
        assert news is None or isinstance(news, WorkerInfo | Gone)
        if news is not None:
            driven.do(driven.session.fleet_news(news, driven.now))
        driven.now += 0.5
        driven.do(driven.session.tick(driven.now))
        driven.clear()

    fuzzer.run(case, sample=800, all_of_them=12_000)


def test_a_batch_of_another_job_is_noticed() -> None:
    """That the fuzzers' judgement can fail: a good batch does come through, one that was moved does not."""
    driven = Driven(worker("w1"))
    driven.start("j1", worker_id="w1")
    rows = batch(driven, "j1")
    driven.do(driven.session.events(events.unpack(msgpack.packb(rows)), driven.now))
    assert driven.text("j1") == PIECE * 2
    driven.start("j2", worker_id="w1")
    for row in rows[2]:
        row[0] = "j2"
    driven.do(driven.session.events(events.unpack(msgpack.packb(rows)), driven.now))
    assert driven.text("j2") == ""
    assert claimed("j2").seq == 0


DEEP = b"[" * 5000


@pytest.mark.parametrize("raw", [DEEP, b'{"gone":' * 5000, b'{"slots_total": 1e999}', b"Infinity", b"\xff"])
def test_what_json_loads_does_not_survive(raw: bytes) -> None:
    """Each ended a relay, a control thread or the watch over installs once."""
    assert decode_fleet(raw) is None
    assert parse(raw) is None
    assert "status" not in _object(raw)


def test_a_seq_that_is_no_number() -> None:
    rows = [["j1", 0, float("inf"), b""]]
    with pytest.raises(SealError):
        events.unpack(msgpack.packb([1, "w1", rows]))
    assert parse(b'{"op": "cancel", "job_id": "j", "attempt": 1e999}') is None
