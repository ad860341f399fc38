"""Fixtures every tier shares: a real Redis server and the real small chat model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.fakes.redis_server import RedisServer

# Run under nohup or as a shell's background job, our children would inherit "ignored" for these.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session", autouse=True)
def _null_files() -> Iterator[None]:
    """llama_cpp opens /dev/null twice when it is imported, and would leave both to the interpreter's end."""
    yield
    if utils := sys.modules.get("llama_cpp._utils"):
        utils.outnull_file.close()
        utils.errnull_file.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of our own on a Unix socket, for the whole run."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis database (`redis+socket://…` for Celery is `redis_server.celery_url`)."""
    client = redis.Redis(unix_socket_path=str(redis_server.socket))
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct GGUF: `$PENDRA_TEST_MODEL`, or `.cache/models`, filled by `make test`."""
    path = Path(os.environ.get("PENDRA_TEST_MODEL", ROOT / ".cache" / "models" / SMOLLM2))
    if not path.exists():
        subprocess.run(["make", "-C", str(ROOT), "model"], check=True, stdin=subprocess.DEVNULL)
    return path
