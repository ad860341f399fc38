from __future__ import annotations

import logging

import pytest

from bridge import jobs
from bridge.jobs import JobRecord, JobState, JobTable, move
from tests.bridge.builders import job


def record(job_id: str = "j1") -> JobRecord:
    return JobRecord(job(job_id, body={"messages": ["secret"]}), arrived=0.0)


def test_a_move_is_logged_under_a_stable_action(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pendra.bridge")
    move(record(), JobState.ACQUIRING)
    (line,) = caplog.records
    assert getattr(line, "action") == "job.acquiring"  # noqa: B009  # the logging adapter's own attribute
    assert "secret" not in caplog.text


def test_a_move_the_picture_does_not_allow_is_a_bug() -> None:
    ended = record()
    move(ended, JobState.ENDED)
    with pytest.raises(RuntimeError, match="cannot go from ended to running"):
        move(ended, JobState.RUNNING)


def retired(table: JobTable, job_id: str, now: float = 0.0) -> JobRecord:
    one = record(job_id)
    table.add(one)
    one.outbox.add((0, "frame", False))
    one.next_seq = 1
    move(one, JobState.ENDED)
    table.retire(one, now)
    return one


def test_an_ended_job_keeps_its_frames_and_not_its_request() -> None:
    table = JobTable()
    one = retired(table, "j1")
    assert one.frame.body == {}
    assert table.get("j1") is one
    table.ack("j1", 0)
    assert table.get("j1") is None


def test_unacknowledged_ends_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table = JobTable()
    retired(table, "old", now=0.0)
    retired(table, "new", now=jobs.RETAIN_S - 1)
    table.sweep(jobs.RETAIN_S)
    assert [r.id for r in table] == ["new"]


def test_ended_jobs_are_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RETAIN_JOBS", 3)
    table = JobTable()
    for n in range(10):
        retired(table, f"j{n}")
    assert [r.id for r in table] == ["j7", "j8", "j9"]
    monkeypatch.setattr(jobs, "RETAIN_CHARS", 10)
    retired(table, "j10")
    assert [r.id for r in table] == ["j9", "j10"]
