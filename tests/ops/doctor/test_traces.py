"""What is said of traces that were asked for."""

from __future__ import annotations

from importlib import metadata

import pytest

from ops.doctor import traces
from ops.doctor.verdict import Level
from tests.fakes.collector import Collector

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def verdict():
    (only,) = traces.look()
    return only


def test_nobody_asked(monkeypatch):
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert verdict().level is Level.SKIPPED


def test_a_collector_that_takes_them(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        assert verdict().level is Level.OK
        assert (collector.paths, collector.spans()) == (["/v1/traces"], [])


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(traces, "LIMIT_S", 0.1)
    monkeypatch.setenv(ENDPOINT, "http://user:hunter2@127.0.0.1:9")
    said = verdict()
    assert (said.level, "4318" in said.fix) == (Level.WARNING, True)
    assert "hunter2" not in str(said)


def refuses(_limit_s):
    raise ValueError("hunter2")


def test_a_bad_value(monkeypatch):
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr("tasks.tracing_sdk.answers", refuses)
    said = verdict()
    assert (said.level, "ValueError" in said.found, "hunter2" in str(said)) == (Level.WARNING, True, False)


@pytest.mark.parametrize("part", ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"])
def test_the_extra_is_missing(monkeypatch, part):
    def version(name):
        if name == part:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(metadata, "version", version)
    said = verdict()
    assert (said.level, "pip install 'pendra-worker[otel]'" in said.fix) == (Level.WARNING, True)
