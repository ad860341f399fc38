"""The control plane's own `/metrics`: what is counted, under which names, and who may see it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.controlplane.metrics import _is_this_machine
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import MODEL, FakeBridge
from tests.ops.controlplane.running import Running

DOC = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
SECRET = "nobody could guess this"
CHAT = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": SECRET}]}
ELSEWHERE = {"x-forwarded-for": "192.0.2.7"}  # as a proxy on this machine says it


def page(plane: Running) -> str:
    reply = httpx.get(f"{plane.url}/metrics").raise_for_status()
    assert reply.headers["content-type"].startswith("text/plain")
    return reply.text


def samples(plane: Running, name: str) -> dict[tuple[str, ...], float]:
    """Label values, in the order of the names → value."""
    found = (sample for family in text_string_to_metric_families(page(plane)) for sample in family.samples)
    return {tuple(one.labels[label] for label in sorted(one.labels)): one.value for one in found if one.name == name}


def requests(plane: Running, route: str, status: int) -> float:
    return samples(plane, "pendra_api_requests_total").get((route, str(status)), 0)


def test_replies_are_counted_by_route_and_status(plane: Running) -> None:
    for path in ("/api/v1/models/one", "/api/v1/models/two", "/nowhere", "/else/where"):
        httpx.get(plane.url + path, headers=plane.headers)
    httpx.get(f"{plane.url}/v1/chat/completions")
    assert requests(plane, "/api/v1/models/{model_id:path}", 404) == 2
    assert requests(plane, "none", 404) == 2
    assert requests(plane, "/v1/chat/completions", 405) == 1
    assert not [route for route, _ in samples(plane, "pendra_api_requests_total") if "one" in route.split("/")]


def test_what_is_wrong_with_keys(plane: Running) -> None:
    user = {"x-api-key": plane.plane.keys.create("user")}
    for headers in ({}, {"x-api-key": "pdr_sk_wrong"}, user):
        httpx.get(f"{plane.url}/api/v1/admin/keys", headers=headers)
    refused = samples(plane, "pendra_api_keys_refused_total")
    assert refused == {("unauthorized",): 2, ("admin_key_needed",): 1}


async def test_streams_jobs_and_bridges(api: httpx.AsyncClient, bridge: FakeBridge, plane: Running) -> None:
    route = ("/v1/chat/completions",)
    asking = asyncio.create_task(api.post("/v1/chat/completions", json=CHAT))
    job = await bridge.job()
    await bridge.accept(job)
    assert (await asyncio.to_thread(samples, plane, "pendra_api_jobs_open"))[()] == 1
    assert (await asyncio.to_thread(samples, plane, "pendra_api_bridges_connected"))[()] == 1
    async with api.stream("GET", "/api/v1/live"):
        assert (await asyncio.to_thread(samples, plane, "pendra_api_streams_open"))[("/api/v1/live",)] == 1
    await asyncio.to_thread(until, lambda: samples(plane, "pendra_api_streams_open")["/api/v1/live",] == 0)
    await bridge.finish(job, 1)
    await asking
    assert (await asyncio.to_thread(samples, plane, "pendra_api_jobs_open"))[()] == 0
    await asyncio.to_thread(until, lambda: samples(plane, "pendra_api_streams_open")[route] == 0)
    assert SECRET not in await asyncio.to_thread(page, plane)


def test_from_elsewhere_it_needs_an_admins_key(plane: Running) -> None:
    url = f"{plane.url}/metrics"
    refused = httpx.get(url, headers=ELSEWHERE)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    user = {"x-api-key": plane.plane.keys.create("user")}
    assert httpx.get(url, headers=ELSEWHERE | user).json()["code"] == "admin_key_needed"
    assert "pendra_api_requests_total" in httpx.get(url, headers=ELSEWHERE | plane.headers).text


@pytest.mark.parametrize(
    ("address", "here"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.7", False), ("", False), ("x", False)],
)
def test_what_counts_as_this_machine(address: str, *, here: bool) -> None:
    assert _is_this_machine({"type": "http", "client": (address, 1)}) is here


def test_a_client_that_nobody_knows_is_not_this_machine() -> None:
    """A server on a Unix socket names none."""
    assert _is_this_machine({"type": "http", "client": None}) is False


def test_openmetrics_for_who_asks(plane: Running) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    reply = httpx.get(f"{plane.url}/metrics", headers={"accept": accept})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


def test_the_document_names_them_all(plane: Running) -> None:
    httpx.get(f"{plane.url}/api/v1/models")  # a request and a refused key
    told = dict(re.findall(r"^\| `(pendra_api_\w+)` \| ([a-z, ]*?) ?\|", DOC, re.MULTILINE))
    families = text_string_to_metric_families(page(plane))
    ours = {
        family.name + ("_total" if family.type == "counter" else ""): ", ".join(family.samples[0].labels)
        for family in families
        if family.name.startswith("pendra_")
    }
    assert told == ours
