"""kill -9 of a real agent at many moments of an install: after each, it and a retry end in the verified model."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.celery_config import UNINSTALL
from tests.integration.install_host import Host, tiny
from tests.worker.store.models import GGUF, FileServer, serving
from worker.store import journal

KILLS = 20


@pytest.fixture
def host(redis_url: str, tmp_path: Path) -> Iterator[Host]:
    with Host(redis_url, tmp_path) as made:
        yield made


def test_an_agent_killed_at_many_moments(host: Host) -> None:
    """Nothing or the whole model is visible, whenever it died; what came is gone on with, not fetched twice."""
    moments, interrupted = random.Random(20), 0
    file = host.store / "tiny.gguf"
    with serving(FileServer()) as server:
        asked = tiny(server)
        for _ in range(KILLS):
            server.pace_s = 0.02
            first = host.ask(**asked)
            time.sleep(moments.uniform(0.0, 0.4))  # the moment is what varies
            host.stop(signal.SIGKILL)
            assert not file.exists() or file.read_bytes() == GGUF
            interrupted += not file.exists()
            server.pace_s = 0.0
            host.start()
            for task_id in (host.ask(**asked), first):
                meta = host.done(task_id)
                assert meta["status"] == "SUCCESS", meta
            assert file.read_bytes() == GGUF
            assert journal.unfinished(host.store) == []
            assert host.done(host.ask(UNINSTALL, model="tiny:1"))["status"] == "SUCCESS"
    assert interrupted >= KILLS // 2  # the moments were inside of installs
