"""The benchmark runs, through real processes, and finds nothing lost. Its figures mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import bridge
from bench.synthetic import scenarios

pytestmark = pytest.mark.integration


async def test_streams_and_jobs_through_real_processes() -> None:
    async with scenarios.fleet_of(1, rate=50, threads=8) as fleet:
        row = await scenarios.streams(fleet, 8, rate=50, seconds=0.5)
        assert {name: row[name] for name in ("lost", "doubled", "failed", "stuck", "workers")} == {
            "lost": 0,
            "doubled": 0,
            "failed": 0,
            "stuck": 0,
            "workers": 1,
        }
        assert row["tokens_per_s"] > 0
        assert set(row["cores"]) == {"redis", "bridge", "workers", "load generator", "machine"}
        ran = await scenarios.jobs(fleet, 20, in_flight=12)
        assert (ran["lost"], ran["failed"], ran["stuck"], ran["jobs"]) == (0, 0, 0, 20)
        against = await scenarios.latency(fleet, rate=50, requests=2, tokens=3)
        assert against["stack_first_token_ms"] > 0


def test_what_was_measured_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measured(_: object) -> list[scenarios.Row]:
        return [{"lost": 1, "latency_p99_ms": 1.0, "cores": {"bridge": 0.1}}]

    monkeypatch.setitem(bridge.RUN, "streams", measured)
    out = tmp_path / "out.json"
    assert bridge.main(["streams", "--json", str(out)]) == 1
    assert "missed: 1 lost" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert (found["missed"], found["options"]["streams"]) == (["1 lost"], 1000)
    assert found["machine"]["cores"] > 0
