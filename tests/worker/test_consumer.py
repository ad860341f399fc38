"""The consumer: back soon after Redis, listening to what the runtime has in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import celery
import pytest
import redis
from kombu import Exchange, Queue

from worker.consumer import Consumer


class Hub:
    """Runs what is called soon at once, as the event loop would a moment later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, call):
        call()

    def call_later(self, seconds, call):
        self.later.append((seconds, call))


class Dispatcher:
    def __init__(self) -> None:
        self.flushed = 0

    def flush(self):
        self.flushed += 1


class Loop(Consumer):
    """The consumer without Celery's connection: what it would listen to is a set."""

    def __init__(self) -> None:
        self._wanted = frozenset()
        self._extra = set()
        self.hub = Hub()
        self._events_due = False
        self.event_dispatcher = Dispatcher()
        self.task_consumer = object()
        self.listens = {"worker.w"}
        self.calls: list[str] = []
        self.init_callback = None

    def add_task_queue(self, queue):
        self.calls.append(f"+{queue}")
        self.listens.add(queue)

    def cancel_task_queue(self, queue):
        self.calls.append(f"-{queue}")
        self.listens.discard(queue)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_queues_follow_what_is_wanted_and_the_own_queue_stays(loop):
    loop.want(["model.a", "model.b"])
    loop.want(["model.b", "model.c"])
    assert loop.listens == {"worker.w", "model.b", "model.c"}
    loop.want(())
    assert loop.listens == {"worker.w"}


def test_wanting_the_same_again_does_nothing(loop):
    loop.want(["model.a"])
    loop.want(["model.a"])
    assert loop.calls == ["+model.a"]


def test_what_is_wanted_while_disconnected_is_done_on_reconnect(loop):
    consumer, loop.task_consumer = loop.task_consumer, None
    loop.want(["model.a"])
    assert loop.calls == []
    loop.task_consumer = consumer
    loop.on_ready()
    assert loop.listens == {"worker.w", "model.a"}


def test_what_another_thread_wants_in_the_middle_is_not_taken_for_done(loop):
    soon = []
    loop.hub.call_soon = soon.append
    loop.want(["model.a"])
    consume = loop.add_task_queue

    def slowly(queue):
        if queue == "model.a":
            loop.want(["model.a", "model.b"])
        consume(queue)

    loop.add_task_queue = slowly
    while soon:
        soon.pop(0)()
    assert loop.listens == {"worker.w", "model.a", "model.b"}


class Connection:
    def ensure_connection(self, errback, max_retries, **options: object):
        self.asked = options | {"max_retries": max_retries}
        for interval in (0.2, 0.5):
            errback(ConnectionRefusedError("redis://:password@host"), interval)


def test_reconnecting_never_waits_longer_than_two_seconds_nor_gives_up(loop, caplog):
    connection = Connection()
    loop.broker_connection_retry_attempt = 0
    assert loop.ensure_connected(connection) is connection
    assert connection.asked["interval_max"] == 2
    assert connection.asked["max_retries"] is None
    assert loop.first_connection_attempt is False
    assert caplog.text.count("consumer.retry") == 1  # said once, not at every try
    assert "password" not in caplog.text


def test_a_redis_that_is_full_or_loading_when_queues_are_bound_ends_no_worker(redis_server):
    """As Celery's `Consumer.start` asks: is what the transport raises among the errors to connect again after?"""
    client = redis.Redis(unix_socket_path=str(redis_server.socket))
    app = celery.Celery(broker=redis_server.celery_url)
    made = Consumer(lambda _: None, app=app, controller=SimpleNamespace(use_eventloop=False))
    try:
        client.config_set("maxmemory", 1)
        with app.connection_for_write() as connection, pytest.raises(made.connection_errors) as caught:
            Queue("q", Exchange("e"), "q")(connection.default_channel).declare()
    finally:
        client.config_set("maxmemory", 0)
        client.close()
    assert isinstance(caught.value, redis.exceptions.OutOfMemoryError)


def test_events_of_many_tasks_leave_in_one_message(loop):
    for _ in range(5):
        loop._flush_events()
    assert loop.event_dispatcher.flushed == 0
    [(seconds, send)] = loop.hub.later
    assert seconds == 0.1
    send()
    assert loop.event_dispatcher.flushed == 1
    loop._flush_events()
    assert len(loop.hub.later) == 2
