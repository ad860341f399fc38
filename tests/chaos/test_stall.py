"""An engine that hangs in a process that still beats: the process ends itself, and the fleet hears of it at once."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tasks import keys
from tests.fakes.waiting import until
from tests.integration.worker_fleet import Fleet
from worker.watchdog import EX_STALLED


def test_a_hanging_engine_ends_its_process_and_says_goodbye(redis_url: str, tmp_path: Path) -> None:
    fleet = Fleet(redis_url, tmp_path, TEST_STALL_S="1")
    with fleet.client.pubsub() as news, fleet.worker("w1") as process:
        news.subscribe(keys.FLEET)
        fleet.submit("hangs", body={"hang": True})
        until(lambda: fleet.types("hangs") == ["claimed"])
        until(lambda: process.poll() is not None, 60)
        assert process.returncode == EX_STALLED

        def gone() -> bool:
            message = news.get_message(ignore_subscribe_messages=True)
            return bool(message) and json.loads(message["data"]) == {"gone": "w1"}

        until(gone)
    assert fleet.info("w1") is None
    assert "worker.stalled" in fleet.log("w1").read_text()
    fleet.close()


def test_a_job_that_takes_its_time_is_no_stall(redis_url: str, tmp_path: Path) -> None:
    fleet = Fleet(redis_url, tmp_path, TEST_STALL_S="1")
    with fleet.worker("w1") as process:
        for n in range(6):  # each too short to be one, together longer than the bound
            fleet.submit(f"j{n}", body={"hold": True})
            until(lambda n=n: "progress" in fleet.types(f"j{n}"))  # type: ignore[misc]
            time.sleep(0.4)  # the time it takes is the point
            fleet.cancel(f"j{n}")
            fleet.finished(f"j{n}")
        assert process.poll() is None
    fleet.close()
