"""What an operator watches, of a whole stack on a real model: the metrics page, and `pendra doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.stack import MODEL, Stack, eventually
from tests.fakes.prometheus_server import PrometheusServer, prometheus_binary

DASHBOARD = Path(__file__).resolve().parents[2] / "ops/grafana/dashboards/pendra.json"
# What a good day on one host without GPUs and external servers has none of.
NEED_NOT_BE = {"Errors", "Failures by code", "Wasted tokens", "Guesses that were right", "Failovers", "Installs"}
NEED_NOT_BE |= {
    "External servers",
    "Queue depth",
    "Oldest waiting request",
    "Time of a load",
    "Prompt tokens from the cache",
}
NEED_NOT_BE |= {"Utilisation", "Memory", "Temperature", "Power", "Memory errors", "Which GPU is which"}
DISASTERS = {"PendraBridgeDown", "PendraBridgeUnlinked", "PendraRedisDown", "PendraNoWorkers", "PendraVersionsDiffer"}
PROMPT = [{"role": "user", "content": "Say something about watchmaking that nobody could guess."}]


def metrics_address(stack: Stack) -> str:
    return f"127.0.0.1:{yaml.safe_load((stack.home / 'config.yaml').read_text())['metrics_port']}"


def samples(stack: Stack, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Labels → value of one sample name, as Prometheus would see it now."""
    page = httpx.get(f"http://{metrics_address(stack)}/metrics", timeout=30).raise_for_status().text
    assert "watchmaking" not in page
    found = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return {frozenset(sample.labels.items()): sample.value for sample in found if sample.name == name}


def total(stack: Stack, name: str, **labels: str) -> float:
    return sum(value for found, value in samples(stack, name).items() if set(labels.items()) <= found)


def test_a_stream_is_seen_by_bridge_and_engine(openai_client: openai.OpenAI, stack: Stack) -> None:
    before = total(stack, "pendra_tokens_total", model=MODEL, type="completion")
    stream = openai_client.chat.completions.create(
        model=MODEL, messages=PROMPT, stream=True, max_tokens=8, extra_body={"ignore_eos": True}
    )
    assert sum(1 for _ in stream) > 1
    assert total(stack, "pendra_tokens_total", model=MODEL, type="completion") - before == 8
    assert total(stack, "pendra_time_to_first_token_seconds_count", model=MODEL) >= 1
    assert total(stack, "pendra_inter_token_seconds_count", model=MODEL) >= 7
    assert eventually(lambda: total(stack, "pendra_engine_completion_tokens_total", model=MODEL) >= 8)
    assert total(stack, "pendra_engine_kv_cells", model=MODEL) > 0
    assert total(stack, "pendra_model_loads_total", model=MODEL, outcome="ok") >= 2
    assert total(stack, "pendra_workers", role="worker") >= 2
    assert total(stack, "pendra_bridge_linked") == 1


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[PrometheusServer]:
    prometheus_binary()
    server = PrometheusServer(tmp_path, metrics_address(stack)).start()
    yield server
    server.stop()


def scraped_since(prometheus: PrometheusServer, before: int) -> bool:
    return prometheus.scrapes() > before


def alarming(prometheus: PrometheusServer) -> dict[str, str]:
    """The alerts of DISASTERS that wait to fire, or do."""
    states = {name: rule["state"] for name, rule in prometheus.alerts().items()}
    return {name: states[name] for name in DISASTERS if states[name] != "inactive"}


def test_the_dashboard_in_a_real_prometheus(
    openai_client: openai.OpenAI, stack: Stack, prometheus: PrometheusServer
) -> None:
    panels = [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]
    for _ in range(3):  # between scrapes, so that rates have something to compare
        before = prometheus.scrapes()
        openai_client.chat.completions.create(model=MODEL, messages=PROMPT, max_tokens=8)
        assert eventually(partial(scraped_since, prometheus, before), 30)
    answers = {
        (one["title"], target["expr"]): prometheus.query(target["expr"])
        for one in panels
        for target in one["targets"]
    }
    assert {where: answer.complaints for where, answer in answers.items() if answer.complaints} == {}
    assert {title for (title, _), answer in answers.items() if not answer.rows} <= NEED_NOT_BE
    assert eventually(lambda: not alarming(prometheus)), alarming(prometheus)


def test_the_doctor_finds_a_running_stack_in_order(stack: Stack) -> None:
    done = stack.cli("doctor", "--json")
    levels = {(row["check"], row["level"]): row["found"] for row in json.loads(done.stdout)}
    assert done.returncode == 0, levels
    for check in ("packages", "api", "clock", "redis", "fleet key", "versions", "models"):
        assert (check, "ok") in levels, levels


def test_the_doctor_sees_another_fleet_key(stack: Stack, tmp_path_factory) -> None:
    """A second host whose key is not the fleet's."""
    from tasks.sealing import FleetKey

    home = tmp_path_factory.mktemp("stranger")
    other = Stack(home, stack.models_dir, backends={"PENDRA_FLEET_KEY": FleetKey.generate().to_base64()})
    other.backends["PENDRA_REDIS_URL"] = stack.status_url()
    done = other.cli("doctor", "--json")
    keys = [row for row in json.loads(done.stdout) if row["check"] == "fleet key"]
    assert done.returncode == 1
    assert (keys[0]["level"], "is not that of" in keys[0]["found"]) == ("failed", True)
