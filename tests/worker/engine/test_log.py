from __future__ import annotations

import logging
import threading

import pytest

from worker.engine import log

WARN, ERROR, DEBUG, INFO = 3, 4, 1, 2


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_seen", {})


def test_errors_are_logged_but_do_not_flood(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        log._on_message(ERROR, b"bad thing\n", None)
    assert [(r.levelno, r.message) for r in caplog.records] == [(logging.ERROR, "bad thing")] * 3


def test_llama_chatter_is_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for level in (DEBUG, INFO):
        log._on_message(level, b"chatter", None)
    log._on_message(WARN, b"hm", None)
    assert [r.message for r in caplog.records] == ["hm"]


def test_complaints_of_this_thread_are_captured() -> None:
    with log.captured() as lines:
        other = threading.Thread(target=log._on_message, args=(ERROR, b"elsewhere", None))
        other.start()
        other.join()
        log._on_message(ERROR, b"here\n", None)
        log._on_message(WARN, b"only a warning", None)
    log._on_message(ERROR, b"later", None)
    assert lines == ["here"]


def test_the_callback_outlives_its_installation() -> None:
    log.install()
    first = log._callback
    log.install()
    assert log._callback is first is not None
