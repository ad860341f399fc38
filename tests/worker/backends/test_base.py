"""A cancel reaches whoever asked for it exactly once, whichever came first."""

from __future__ import annotations

from worker.backends.base import CancelToken


def test_callbacks_run_once():
    token = CancelToken()
    calls: list[str] = []
    token.on_cancel(lambda: calls.append("early"))
    assert not token.cancelled
    assert calls == []
    token.cancel()
    token.cancel()
    assert token.cancelled
    assert calls == ["early"]


def test_a_callback_of_a_cancelled_token_runs_at_once():
    token = CancelToken()
    token.cancel()
    calls: list[str] = []
    token.on_cancel(lambda: calls.append("late"))
    assert calls == ["late"]


def test_wait_sees_the_cancel():
    token = CancelToken()
    assert not token.wait(0)
    token.cancel()
    assert token.wait(0)
