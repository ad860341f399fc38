"""The app itself: made lazily, on its own, and sending by name."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from tasks import keys
from tasks.celery_app import PendraCelery, make_app
from tasks.celery_config import ARGSREPR, INFER, UNROUTED_QUEUE
from tasks.errors import ConfigError


def test_the_lazy_app_is_one_object():
    import tasks

    assert isinstance(tasks.app, PendraCelery)
    assert tasks.app is tasks.app


def test_a_message_holds_ids_only_and_lands_in_the_queue_it_was_sent_to(redis_url):
    from tasks.redis_client import connect

    with make_app(redis_url) as app, connect(redis_url) as client:
        app.send_task(INFER, ("job-1", 2, "m:1b", 99), queue=keys.model_queue("m:1b"), argsrepr=ARGSREPR)
        (raw,) = client.lrange("model.m:1b", 0, -1)
        message = json.loads(raw)
    assert message["headers"]["task"] == INFER
    assert message["headers"]["argsrepr"] == ARGSREPR
    assert json.loads(b64decode(message["body"]))[0] == ["job-1", 2, "m:1b", 99]


def test_what_names_no_queue_lands_where_no_worker_listens(redis_url):
    from tasks.redis_client import connect

    with make_app(redis_url) as app, connect(redis_url) as client:
        app.send_task(INFER, ("job-1", 0))
        assert client.llen(UNROUTED_QUEUE) == 1


def test_unusable_settings_raise_for_programs(monkeypatch):
    monkeypatch.setenv("PENDRA_REDIS_URL", "http://nope")
    with pytest.raises(ConfigError, match="PENDRA_REDIS_URL"):
        make_app()


def test_under_the_celery_command_they_end_it_in_words(monkeypatch):
    import click

    monkeypatch.setenv("PENDRA_REDIS_URL", "http://nope")
    with click.Context(click.Command("celery")), pytest.raises(SystemExit, match="PENDRA_REDIS_URL"):
        make_app()


def test_the_worker_command_starts_our_program():
    from worker.program import Program

    assert issubclass(make_app("redis://h/0").Worker, Program)
