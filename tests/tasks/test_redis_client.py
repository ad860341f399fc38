"""The rule of connections: bounded waits, no hidden retries, one URL for clients and for Celery."""

from __future__ import annotations

import pytest
import redis
from kombu import Connection

from tasks.errors import ConfigError
from tasks.redis_client import celery_url, connect, connect_async, retryable


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:6379/2", "redis://h:6379/2"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"),
        ("unix://u:p%40ss@/run/r.sock", "redis+socket://u:p%40ss@/run/r.sock?virtual_host=0"),
        ("rediss://h:6379/0", "rediss://h:6379/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none"),
    ],
)
def test_celery_gets_the_same_server(url, expected):
    assert celery_url(url) == expected


def test_celery_checks_the_certificate_of_rediss():
    with Connection(celery_url("rediss://h:6379/0")) as connection:
        assert connection.ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"


@pytest.mark.parametrize("url", ["http://:secret@h", "h:6379", "", "unix://", "redis://"])
def test_an_unusable_url_is_refused_without_quoting_a_password(url):
    with pytest.raises(ConfigError, match="PENDRA_REDIS_URL") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (redis.ConnectionError("gone"), True),
        (redis.TimeoutError("slow"), True),
        (BrokenPipeError(), True),
        (redis.exceptions.BusyLoadingError("loading"), True),
        (redis.exceptions.OutOfMemoryError("oom"), True),
        (redis.exceptions.ReadOnlyError("replica"), True),
        (redis.AuthenticationError("who"), False),
        (redis.exceptions.NoPermissionError("acl"), False),
        (redis.ResponseError("wrong type"), False),
        (ValueError("ours"), False),
    ],
)
def test_which_errors_are_worth_another_try(error, again):
    assert retryable(error) is again


def test_clients_bound_every_wait_and_never_repeat_a_write():
    for client in (connect("redis://h:1/0"), connect_async("redis://h:1/0"), connect("unix:///x.sock")):
        options = client.connection_pool.connection_kwargs
        assert options["socket_timeout"] == 5
        assert options["socket_connect_timeout"] == 2
        assert options["health_check_interval"] == 10
        assert options["retry"].get_retries() == 0
        assert options.get("retry_on_timeout") is not True


def test_a_client_talks_to_the_server(redis_url):
    with connect(redis_url) as client:
        assert client.ping() is True


async def test_an_async_client_talks_to_the_server(redis_url):
    async with connect_async(redis_url) as client:
        assert await client.ping() is True
