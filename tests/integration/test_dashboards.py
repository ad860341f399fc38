"""Every query of dashboard and alerts, against the page of a running fleet on which everything has happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client import Metric

from tasks.errors import STATUS_BY_CODE
from tasks.redis_client import connect
from tests.integration.bridge_world import World, eventually
from tests.integration.promql import ADDED, Selected, matches, parsed, selectors, shown
from tests.integration.watched_fleet import a_watched_fleet, families

pytestmark = pytest.mark.integration

OPS = Path(__file__).resolve().parents[2] / "ops"
DASHBOARD: dict[str, Any] = json.loads((OPS / "grafana/dashboards/pendra.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = [
    rule
    for group in yaml.safe_load((OPS / "prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
QUERIES += [(rule["alert"], rule["expr"]) for rule in ALERTS]


class Page:
    """The series that a scrape gave: sample name → rows of labels."""

    def __init__(self, found: dict[str, Metric]) -> None:
        self.rows: dict[str, list[dict[str, str]]] = {}
        for sample in (sample for family in found.values() for sample in family.samples):
            self.rows.setdefault(sample.name, []).append(dict(sample.labels))

    def labels(self, name: str) -> set[str]:
        return set(self.rows[name][0])

    def passes(self, one: Selected) -> bool:
        """Whether a real series has the labels that the selector names, with values that pass."""
        wanted = [matcher for matcher in one.matchers if matcher.name not in ADDED]
        return any(
            all(m.name in row and (_is_a_code(m) or matches(m, row[m.name])) for m in wanted)
            for row in self.rows[one.name]
        )


def _is_a_code(matcher: Any) -> bool:
    """Not every error happens in this fleet, but every one that is named exists."""
    return matcher.name in {"code", "outcome"} and any(matches(matcher, code) for code in STATUS_BY_CODE)


@pytest.fixture(scope="module")
def page(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Page:
    with contextlib.closing(connect(redis_server.url)) as client:
        client.flushall()

    async def scraped() -> dict[str, Metric]:
        async with a_watched_fleet(redis_server.url, tmp_path_factory.mktemp("watched")) as world:
            await eventually(lambda: _has_figures(world))
            return await families(world)

    return Page(asyncio.run(scraped()))


def _has_figures(world: World) -> bool:
    return all(info.gpu for info, _ in world.bridge.session.readings.picture(0.0).workers)


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_asks_for_what_the_fleet_says(page: Page, title: str, query: str) -> None:
    found = list(selectors(parsed(query)))
    assert found, f"{title} asks for nothing"
    for one in found:
        if one.name == "up":  # Prometheus' own
            continue
        assert one.name in page.rows, f"{title}: no bridge says {one.name}"
        assert one.grouped <= page.labels(one.name) | ADDED, f"{title}: {one.name} has no such label"
        assert page.passes(one), f"{title}: no series passes {one.matchers}"


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_legend_names_labels_that_the_query_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = {label for one in selectors(parsed(target["expr"])) for label in one.grouped} | ADDED
        assert shown(target["legendFormat"]) <= kept


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_is_whole(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}
    if "for" in rule:
        promql.parse_duration(rule["for"])
    kept = {label for one in selectors(parsed(rule["expr"])) for label in one.grouped} | ADDED
    assert shown(" ".join(rule["annotations"].values())) - {"value"} <= kept


def test_a_metric_that_nobody_asks_for_is_not_sent(page: Page) -> None:
    asked = {one.name for _, query in QUERIES for one in selectors(parsed(query))}
    spare = {
        name for name in page.rows if name.startswith("pendra_") and not name.endswith(("_sum", "_count", "_created"))
    }
    assert spare - asked == {
        "pendra_engine_cached_tokens_total",
        "pendra_engine_prompt_tokens_total",
        "pendra_engine_slots",
    }


def test_panels_have_their_own_ids_places_and_words() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"] for panel in PANELS)
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in PANELS for target in panel["targets"])
    assert not [
        (a["title"], b["title"])
        for a, b in combinations(DASHBOARD["panels"], 2)
        if _overlap(a["gridPos"], b["gridPos"])
    ]


def _overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    return not (apart_x or apart_y)


def test_prometheus_reads_the_alerts_and_scrapes_the_bridge() -> None:
    config = yaml.safe_load((OPS / "prometheus/prometheus.yml").read_text("utf-8"))
    assert config["rule_files"] == ["alerts.yml"]
    (job,) = config["scrape_configs"]
    used = {m.value for _, q in QUERIES for one in selectors(parsed(q)) for m in one.matchers if m.name == "job"}
    assert used == {job["job_name"]}


def test_grafana_finds_dashboards_and_source() -> None:
    (source,) = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ]
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "datasource"]
    assert variable["current"]["value"] == source["uid"]
    (provider,) = yaml.safe_load((OPS / "grafana/provisioning/dashboards/pendra.yml").read_text("utf-8"))["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
