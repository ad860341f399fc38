"""Celery's configuration: the decisions that keep jobs from being lost, doubled, hoarded or shown."""

from __future__ import annotations

import pytest
from celery.worker.worker import WorkController

from tasks.celery_app import make_app
from tasks.celery_config import ARGSREPR, configuration
from tasks.errors import ConfigError

URL = "unix:///run/r.sock"


@pytest.fixture(scope="module")
def conf():
    return make_app(URL).conf


def test_every_setting_is_one_celery_knows(conf):
    """A misspelt name would be ignored in silence."""
    from celery.app.defaults import NAMESPACES, flatten

    known = {name for name, _ in flatten(NAMESPACES)}
    assert set(configuration(URL)) <= known


def test_the_broker_is_the_redis_of_the_settings(conf):
    assert conf.broker_url == "redis+socket:///run/r.sock?virtual_host=0"
    with pytest.raises(ConfigError):
        make_app("amqp://h")


def test_a_message_is_acked_when_it_starts_and_none_is_held_in_reserve(conf):
    assert conf.task_acks_late is False
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_disable_prefetch is True


def test_task_events_are_on_as_with_dash_e(conf):
    """They wake the consumer when a slot frees (measured in tests/integration/test_worker_slots.py)."""
    controller = WorkController.__new__(WorkController)
    controller.app = make_app(URL)
    controller.setup_defaults(task_events=None)  # no -E on the command line
    assert controller.task_events is True


def test_a_lost_broker_is_waited_for_and_never_written_to_twice(conf):
    assert conf.broker_connection_max_retries is None
    assert conf.broker_connection_retry_on_startup is True
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    options = conf.broker_transport_options
    assert options["retry_on_timeout"] is False
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (5, 2)
    assert conf.task_publish_retry is False


def test_only_json_is_accepted(conf):
    assert conf.accept_content == conf.result_accept_content == ["json"]
    assert conf.task_serializer == conf.event_serializer == conf.result_serializer == "json"


def test_only_installs_store_results_and_logging_is_ours(conf):
    assert conf.task_ignore_result is True
    assert conf.result_backend == conf.broker_url
    assert conf.result_expires == 86_400
    assert conf.worker_hijack_root_logger is False
    assert conf.worker_redirect_stdouts is False


def test_arguments_are_shown_as_a_constant_that_is_not_empty():
    assert ARGSREPR  # empty falls back to the real ones


def test_the_transport_takes_the_options(redis_server):
    """kombu must understand what we hand it: an unknown option would only show under load."""
    with make_app(redis_server.url).connection_for_write() as connection:
        client = connection.default_channel.client
        assert client.ping() is True
        assert client.connection_pool.connection_kwargs["socket_timeout"] == 5
