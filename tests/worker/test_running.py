"""The register of running jobs."""

from __future__ import annotations

from worker.running import Running


def test_a_job_is_there_from_enter_to_leave():
    running = Running()
    token = running.enter("j", 0)
    assert running.keys() == {("j", 0)}
    assert len(running) == 1
    assert token is not None
    assert not token.cancelled
    running.leave("j", 0)
    running.leave("j", 0)
    assert len(running) == 0


def test_one_attempt_runs_once():
    running = Running()
    assert running.enter("j", 0)
    assert running.enter("j", 0) is None
    assert running.enter("j", 1)


def test_a_cancel_reaches_the_attempt_and_those_before_it():
    running = Running()
    old, named, newer, other = (running.enter(*key) for key in [("j", 0), ("j", 1), ("j", 2), ("k", 0)])
    assert running.cancel("j", 1) is True
    assert [token.cancelled for token in (old, named, newer, other)] == [True, True, False, False]


def test_everything_can_be_stopped():
    running = Running()
    tokens = [running.enter(*key) for key in [("j", 0), ("k", 3)]]
    assert running.cancel_all() == 2
    assert all(token.cancelled for token in tokens)


def test_a_cancel_for_nobody_is_no_error():
    assert Running().cancel("j", 0) is False


def test_coming_and_going_is_told():
    told: list[int] = []
    running = Running(lambda: told.append(len(running)))
    running.enter("j", 0)
    running.leave("j", 0)
    assert told == [1, 0]
