"""The catalogue that is served: a site's own, and what is said when that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from ops.controlplane import catalogue
from ops.controlplane.catalogue import KEEP_S, SHIPPED, SiteCatalogue
from ops.controlplane.config import Config
from ops.controlplane.server import make_app

ENTRY = {
    "id": "site:1b", "name": "Site", "backend": "pendra", "capability": "chat", "parameter_size": "1B",
    "licence": "MIT", "variants": [{"quantisation": "F16", "gguf_url": "hf://a/b/c-f16.gguf"}],
}  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_without_a_site_it_is_ours() -> None:
    shipped = SiteCatalogue()
    assert await shipped.get() is catalogue.load()
    assert (shipped.source, shipped.problem) == (SHIPPED, None)
    await shipped.keep()  # nothing to look after


async def test_a_site_is_read_once_a_minute_and_the_last_good_one_stays(tmp_path: Path) -> None:
    file, clock = tmp_path / "catalogue.json", Clock()
    site = SiteCatalogue(file.as_uri(), clock=clock)
    assert await site.get() is catalogue.load()
    assert "ours is used instead" in (site.problem or "")
    file.write_text(json.dumps({"data": [ENTRY]}))
    assert "site:1b" not in await site.get()
    clock.now += 2 * KEEP_S
    catalogue.load_from.__globals__["_read"].cache_clear()  # it keeps a minute of the real clock
    assert "site:1b" in await site.get()
    assert "site:1b" in site
    assert "smollm2:135m" not in site
    assert (site.source, site.problem) == (file.as_uri(), None)
    file.write_text("{}")
    clock.now += 2 * KEEP_S
    catalogue.load_from.__globals__["_read"].cache_clear()
    assert "site:1b" in await site.get()
    assert "is not one: see data" in (site.problem or "")
    assert "the last good one is used" in (site.problem or "")


@pytest.mark.parametrize("broken", [False, True])
async def test_what_is_served(tmp_path: Path, *, broken: bool) -> None:
    file = tmp_path / "catalogue.json"
    file.write_text("nonsense" if broken else json.dumps({"data": [ENTRY]}))
    app = make_app(Config(home=tmp_path / "home", catalogue_url=file.as_uri()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        reply = await client.get("/api/v1/catalogue")
    app.state.plane.close()
    body = reply.json()
    assert reply.status_code == 200
    if broken:
        assert body["source"] == SHIPPED
        assert body["notice"]["code"] == reply.headers["x-pendra-error-code"] == "catalogue_unreadable"
        assert any(model["id"] == "smollm2:135m" for model in body["data"])
    else:
        assert [model["id"] for model in body["data"]] == ["site:1b"]
        assert body["source"] == file.as_uri()
        assert "notice" not in body
