"""Dashboard and alerts in a real Prometheus that scrapes a fleet on which everything has happened.

Grafana itself is not run: its panels' queries are sent as it would send them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.redis_client import connect
from tests.fakes.prometheus_server import Answer, PrometheusServer, prometheus_binary
from tests.fakes.waiting import until
from tests.integration.bridge_world import World
from tests.integration.test_dashboards import ALERTS, PANELS
from tests.integration.watched_fleet import FIGURES, a_watched_fleet

pytestmark = pytest.mark.integration

QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
HOT_C = 95.0
RAISED = {
    "PendraGpuHot": "pending",  # it would have to last
    "PendraGpuMemoryErrors": "firing",
    "PendraModelLoadsFail": "firing",
    "PendraFleetFull": "pending",
}


def raised(alerts: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: rule["state"] for name, rule in alerts.items() if rule["state"] != "inactive"}


class Seen:
    """What Prometheus said of each query and each alert."""

    def __init__(self, server: PrometheusServer) -> None:
        self.answers: dict[str, Answer] = {query: server.query(query) for _, query in QUERIES}
        self.alerts = server.alerts()


@pytest.fixture(scope="module")
def seen(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    prometheus_binary()
    with contextlib.closing(connect(redis_server.url)) as client:
        client.flushall()
    return asyncio.run(_watched(redis_server.url, tmp_path_factory.mktemp("fleet"), tmp_path_factory.mktemp("prom")))


async def _watched(redis_url: str, home: Path, folder: Path) -> Seen:
    async with a_watched_fleet(redis_url, home) as world:
        assert world.bridge.metrics is not None
        assert world.bridge.metrics.bound is not None
        target = f"127.0.0.1:{await world.bridge.metrics.bound}"
        server = PrometheusServer(folder, target)
        try:
            await asyncio.to_thread(server.start)
            await _until(lambda: server.scrapes() >= 2)
            _goes_on(world)
            await _until(lambda: raised(server.alerts()).items() >= RAISED.items())
            return await asyncio.to_thread(Seen, server)
        finally:
            await asyncio.to_thread(server.stop)


def _goes_on(world: World) -> None:
    """The engine works on, another load fails, the GPU gets hot."""
    (worker,) = world.workers
    (engine,), (good, bad), (gpu,) = FIGURES["engines"], FIGURES["loads"], FIGURES["gpu"]
    grown = ("steps", "completion_tokens", "drafted_tokens", "accepted_tokens")
    more = {name: getattr(engine, name) + 50 for name in grown}
    worker.info = worker.info.model_copy(
        update={
            "engines": (engine.model_copy(update=more),),
            "loads": (good.model_copy(update={"count": 3, "seconds": 5.0}), bad.model_copy(update={"count": 2})),
            "gpu": (gpu.model_copy(update={"temperature_c": HOT_C, "ecc_errors": 1}),),
        }
    )


async def _until(look: Callable[[], bool]) -> None:
    """In a thread: the bridge in this process must go on, as it is what Prometheus asks."""
    await asyncio.to_thread(until, look, 60, 0.1)


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_panel_has_something_to_show(seen: Seen, title: str, query: str) -> None:
    answer = seen.answers[query]
    assert answer.complaints == (), title
    assert answer.rows, title


def test_prometheus_takes_every_alert(seen: Seen) -> None:
    assert set(seen.alerts) == {rule["alert"] for rule in ALERTS}
    assert {name: rule["lastError"] for name, rule in seen.alerts.items() if rule["health"] != "ok"} == {}


def test_alerts_are_raised_for_what_is_wrong_and_for_nothing_else(seen: Seen) -> None:
    assert raised(seen.alerts) == RAISED
