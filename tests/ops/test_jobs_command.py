"""`pendra jobs` against a Redis that has a bridge's report in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from ops.cli import run
from tasks import keys
from tasks.contract import JobRow, Overview
from tasks.redis_client import connect


@pytest.fixture
def client(redis_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    monkeypatch.setenv("PENDRA_REDIS_URL", redis_url)
    with connect(redis_url) as client:
        yield client


def report(client: redis.Redis, *rows: JobRow, total: int | None = None) -> None:
    view = Overview(bridge_id="wrk-1", total=len(rows) if total is None else total, rows=rows)
    client.set(keys.overview("wrk-1"), view.model_dump_json())


RUNS = JobRow(job_id="req_1", model="m", state="running", attempt=2, worker_id="wrk-1-gpu0", age_s=3.2, tokens=17)


def test_each_request_is_a_line(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    report(client, RUNS, JobRow(job_id="req_2", model="m", state="waiting"), total=9)
    assert run(["jobs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["req_1", "m", "running", "2", "wrk-1-gpu0", "3.2", "s", "17", "wrk-1"]
    assert lines[2].split()[:3] == ["req_2", "m", "waiting"]
    assert "7 more on wrk-1" in lines[3]


def test_as_json(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    report(client, RUNS)
    assert run(["jobs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["job_id"], row["attempt"]) == ("req_1", 2)


def test_idle_is_not_the_same_as_no_bridge(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs"]) == 0
    assert "no bridge reports" in capsys.readouterr().err
    report(client)
    assert run(["jobs"]) == 0
    assert "no request is open" in capsys.readouterr().err


def test_without_redis_it_says_so(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENDRA_REDIS_URL", "unix:///nowhere.sock")
    assert run(["jobs"]) == 1
    assert "redis_unavailable" in capsys.readouterr().err
