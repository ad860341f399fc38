from __future__ import annotations

import threading

from worker.engine.inbox import Cancel, Inbox


def test_messages_come_out_in_order() -> None:
    inbox = Inbox()
    assert inbox.put(Cancel("a"))
    assert inbox.put(Cancel("b"))
    assert [inbox.take(), inbox.take(), inbox.take()] == [Cancel("a"), Cancel("b"), None]


def test_a_closed_inbox_takes_nothing() -> None:
    inbox = Inbox()
    inbox.close()
    assert not inbox.put(Cancel("a"))
    assert inbox.take() is None


def test_the_reader_sleeps_until_there_is_something() -> None:
    for wake in (lambda inbox: inbox.put(Cancel("a")), Inbox.close):
        inbox = Inbox()
        reader = threading.Thread(target=inbox.wait)
        reader.start()
        assert reader.is_alive()
        wake(inbox)
        reader.join(timeout=10)
        assert not reader.is_alive()
