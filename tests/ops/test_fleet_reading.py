"""One look at Redis: who is there, how full, how fast."""

from __future__ import annotations

import pytest
import redis

from ops.fleet_reading import Reading, read_fleet
from tasks import keys
from tasks.contract import JobRow, ModelInfo, Overview, WorkerInfo
from tasks.errors import UnavailableError
from tasks.redis_client import connect


def worker(worker_id: str, **fields: object) -> WorkerInfo:
    base = {"epoch": "e", "name": "host", "node": worker_id[:5], "pid": 1, "version": "1", "device": "cpu0"}
    return WorkerInfo.model_validate({"worker_id": worker_id, "slots_total": 4, **base, **fields})


def beat(client: redis.Redis, info: WorkerInfo) -> None:
    client.hset(keys.WORKERS, info.worker_id, info.model_dump_json())
    client.set(keys.worker_lease(info.worker_id), info.epoch)


@pytest.mark.integration
def test_live_workers_and_every_bridges_report(redis_url: str) -> None:
    with connect(redis_url) as client:
        beat(client, worker("wrk-b-cpu0"))
        beat(client, worker("wrk-a-cpu0", slots_busy=9))
        beat(client, worker("wrk-a-proxy", role="proxy"))
        client.hset(keys.WORKERS, "wrk-c-cpu0", worker("wrk-c-cpu0").model_dump_json())  # its lease is over
        for name, pace in (("b1", 30.0), ("b2", 12.5)):
            view = Overview(bridge_id=name, total=1, waiting=2, pace={"wrk-a-cpu0": pace})
            client.set(keys.overview(name), view.model_dump_json())
        reading = read_fleet(client)
    assert [one.worker_id for one in reading.workers] == ["wrk-a-cpu0", "wrk-b-cpu0"]
    assert (reading.hosts, reading.slots_busy, reading.slots_total) == (2, 4, 8)
    assert (reading.waiting, reading.tokens_per_second) == (4, 30.0)
    assert (reading.pace_of("wrk-a-cpu0"), reading.pace_of("wrk-b-cpu0")) == (30.0, 0.0)


def test_models_with_who_has_them_and_what_runs() -> None:
    has, loaded = ModelInfo(id="m"), ModelInfo(id="m", loaded=True)
    rows = (
        JobRow(job_id="r1", model="m", state="running", age_s=1.0),
        JobRow(job_id="r2", model="m", state="waiting", age_s=5.0),
        JobRow(job_id="r3", model="gone", state="waiting"),
    )
    workers = (worker("w1", models=(loaded,)), worker("w2", models=(has, ModelInfo(id="n"))))
    reading = Reading(0.0, workers, (Overview(bridge_id="b", total=3, rows=rows),))
    m, n = reading.models()
    assert (m.info.id, m.holders, m.loaded, m.running, m.waiting) == ("m", 2, 1, 1, 1)
    assert (n.info.id, n.holders, n.loaded, n.running, n.waiting) == ("n", 1, 0, 0, 0)
    assert [row.job_id for row in reading.jobs] == ["r2", "r1", "r3"]


def test_without_redis_it_says_so() -> None:
    with connect("unix:///nowhere.sock") as client, pytest.raises(UnavailableError) as caught:
        read_fleet(client)
    assert caught.value.code == "redis_unavailable"
