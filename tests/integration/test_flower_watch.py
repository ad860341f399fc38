"""What Flower shows of a fleet: names that mean something, counts, and nothing of what people asked."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.stack import free_port
from tests.fakes.waiting import PATIENCE_S, until
from tests.integration.install_host import NODE, ROOT, Host
from tests.worker.store.models import SHA256, FileServer, serving

pytestmark = pytest.mark.integration
AGENT = f"install@{NODE}"


@pytest.fixture(scope="module")
def host(redis_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Host(redis_server.url, tmp_path_factory.mktemp("watch")) as place:
        yield place


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def flower_process(host: Host, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """As compose has it: password and Redis URL in files."""
    (host.home / "auth").write_text("ops:hush\n")
    (host.home / "url").write_text(host.env["PENDRA_REDIS_URL"] + "\n")
    env = {name: value for name, value in host.env.items() if name != "PENDRA_REDIS_URL"}
    env |= {"FLOWER_BASIC_AUTH_FILE": str(host.home / "auth"), "PENDRA_REDIS_URL_FILE": str(host.home / "url")}
    argv = [sys.executable, "-m", "ops.cli", "flower", "--port", str(port), "--logging=warning"]
    with (host.home / "flower.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def flower(host: Host, port: int, flower_process: subprocess.Popen[bytes]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
        until(lambda: flower_process.poll() is not None or alive(client), 30, 0.1)
        assert flower_process.poll() is None, (host.home / "flower.log").read_text()
        until(lambda: AGENT in workers(client), 30, 0.2)
        yield client


def alive(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return client.get("/healthcheck").status_code == 200
    return False


def workers(client: httpx.Client) -> str:
    return client.get("/api/workers", auth=("ops", "hush")).text


def samples(client: httpx.Client) -> dict[tuple[str, str, str], float]:
    """(name, worker, event type) → value, of what `/metrics` says."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for one in family.samples:
            found[one.name, one.labels.get("worker", ""), one.labels.get("type", "")] = one.value
    return found


def test_health_and_metrics_are_open_everything_else_is_not(flower: httpx.Client):
    """docs/install.md: Prometheus and health checks need no password; there is nothing of a job in them."""
    assert flower.get("/healthcheck").status_code == 200
    assert flower.get("/metrics").status_code == 200
    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/task/types"):
        assert flower.get(path).status_code == 401, path
        assert flower.get(path, auth=("ops", "wrong")).status_code == 401, path


def test_metrics_name_workers_and_tasks_and_count_them(flower: httpx.Client, host: Host):
    with serving(FileServer()) as server:
        task_id = host.ask(model="tiny:1", source=server.url, sha256=SHA256)
        assert host.done(task_id)["status"] == "SUCCESS"
    until(lambda: samples(flower).get(("flower_events_total", AGENT, "task-succeeded"), 0) >= 1, every_s=0.2)
    until(
        lambda: samples(flower).get(("flower_worker_online", AGENT, "")) == 1, every_s=0.2
    )  # with its next heartbeat
    assert ("flower_task_runtime_seconds_count", AGENT, "") in samples(flower)
    assert server.url not in flower.get("/metrics").text
    assert task_id not in flower.get("/metrics").text


def test_the_password_is_in_no_argument(flower_process: subprocess.Popen[bytes]):
    assert "hush" not in " ".join(psutil.Process(flower_process.pid).cmdline())
