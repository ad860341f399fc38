"""The worker program: which pool, which queues, which name."""

from __future__ import annotations

import pytest
from celery.concurrency.prefork import TaskPool as Prefork
from celery.concurrency.solo import TaskPool as Solo
from celery.concurrency.thread import TaskPool as Threads

from tasks.celery_app import make_app
from tasks.errors import ConfigError
from worker.process import Process
from worker.program import refuse_other_pools, typed_pool


@pytest.mark.parametrize(
    ("line", "pool"),
    [
        ("worker", None),
        ("worker -c 4 -l INFO", None),
        ("worker -P prefork", "prefork"),
        ("worker -Pprefork", "prefork"),
        ("worker -EP prefork", "prefork"),
        ("worker -DEPprefork", "prefork"),
        ("worker --pool prefork", "prefork"),
        ("worker --pool=threads", "threads"),
        ("worker -P threads -P solo", "solo"),
        ("worker -n Prefork@host -Q P", None),
        ("worker -P", None),
    ],
)
def test_what_was_typed_is_found_in_every_spelling(line, pool):
    assert typed_pool(line.split()) == pool


@pytest.mark.parametrize("pool", [None, "threads", Threads])
def test_threads_are_accepted(pool):
    refuse_other_pools(pool, ["worker", "-P", "threads"])


@pytest.mark.parametrize(("pool", "name"), [("prefork", "prefork"), (Prefork, "prefork"), (Solo, "solo")])
def test_other_pools_are_refused_by_name_and_with_the_way_out(pool, name):
    with pytest.raises(ConfigError, match=f"'{name}'.*threads is the default"):
        refuse_other_pools(pool, [])


def test_prefork_typed_is_refused_although_celery_hands_over_threads():
    with pytest.raises(ConfigError, match="'prefork'"):
        refuse_other_pools(Threads, ["celery", "worker", "-P", "prefork"])


class Runtime:
    def models(self):
        return ()


@pytest.fixture
def started(monkeypatch, tmp_path):
    """A program that was made, not run."""
    import logging

    from celery import signals

    import worker.process
    from tasks.sealing import FleetKey

    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    monkeypatch.setenv("PENDRA_FLEET_KEY", FleetKey.generate().to_base64())
    monkeypatch.setenv("WORKER_ID", "wrk-1")
    monkeypatch.setenv("MAX_CONCURRENT", "3")
    monkeypatch.setattr(worker.process, "_current", None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def make(**options: object):
        def build(settings, asked):
            slots = worker.process.slots_of(settings, asked)
            return Process(settings, slots, lambda *_: Runtime())

        return make_app("redis://127.0.0.1:1/0").Worker(build=build, quiet=True, **options)

    yield make
    signals.worker_shutting_down.disconnect(dispatch_uid="pendra.shutdown")
    signals.setup_logging.disconnect(dispatch_uid="pendra.logging")
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.filterwarnings("ignore:You're running the worker with superuser privileges")
def test_it_is_set_up_for_one_thread_per_slot_and_its_own_queue(started):
    program = started()
    assert program.hostname == "chat@wrk-1-cpu0"
    assert program.concurrency == 3
    assert program.pool_cls is Threads
    assert set(program.app.amqp.queues.consume_from) == {"worker.wrk-1-cpu0"}
    labels = {step.label for step in program.consumer.steps}
    assert {"Gossip", "Mingle"}.isdisjoint(labels)
    assert type(program.consumer).__module__ == "worker.consumer"
    assert program.process.slots == 3


@pytest.mark.filterwarnings("ignore:You're running the worker with superuser privileges")
def test_what_was_asked_for_is_respected(started):
    program = started(hostname="mine@here", concurrency=5, queues=["extra"])
    assert program.hostname == "mine@here"
    assert program.concurrency == program.process.slots == 5
    assert set(program.app.amqp.queues.consume_from) == {"worker.wrk-1-cpu0", "extra"}


def test_autoscale_is_refused(started):
    with pytest.raises(ConfigError, match="MAX_CONCURRENT"):
        started(autoscale=(10, 1))
