"""docs/metrics.md names every metric with its labels, and no other: compared with a real page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.bridge_world import eventually
from tests.integration.watched_fleet import a_watched_fleet, families

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `(pendra_(?!api_)\w+)` \| ([a-z, ]*?) ?\|", PAGE, re.MULTILINE))


async def test_the_page_and_the_document_say_the_same(redis_url: str, tmp_path: Path) -> None:
    async with a_watched_fleet(redis_url, tmp_path) as world:
        await eventually(lambda: world.bridge.session.readings.picture(0.0).workers[0][0].gpu)
        found = await families(world)
    ours = {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels) - {"le"}
        for family in found.values()
        if family.name.startswith("pendra_")
    }
    assert {name: {part for part in labels.split(", ") if part} for name, labels in ROWS.items()} == ours
