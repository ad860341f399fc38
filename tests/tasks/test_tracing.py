"""When traces are sent, what a trace context is, and what a span may say."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import tracing
from tasks.contract import JobKind, Usage
from tasks.tracing import NO_TRACER, Fact, context_of, facts_of, facts_of_usage, objection, start
from tests.fakes.traced import PARENT, SAMPLED, TRACE, Traced, facts

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@collector:4318"}


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "  "}, ""),
        (ENDPOINT, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, None),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, ""),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, ""),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, None),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: only otlp"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "port 4318"),
    ],
)
def test_who_asks_for_traces(environ, why):
    found = objection(environ)
    assert found == why if not why else why in str(found)


def test_nobody_asked(caplog):
    assert start("bridge", environ={}) is NO_TRACER
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("environ", "words"),
    [({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"), ({"OTEL_TRACES_EXPORTER": "x"}, "only otlp")],
)
def test_what_cannot_be_done_is_said_once_and_costs_nothing_else(caplog, environ, words):
    assert start("bridge", environ=ENDPOINT | environ) is NO_TRACER
    (record,) = caplog.records
    assert (record.levelno, words in record.getMessage()) == (logging.WARNING, True)
    assert "hunter2" not in caplog.text


def test_a_missing_extra_is_named_with_its_remedy(caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "tasks.tracing_sdk", None)  # as if its imports failed
    assert start("bridge", environ=dict(ENDPOINT)) is NO_TRACER
    assert "traces.off" in caplog.text
    assert "pip install 'pendra-worker[otel]'" in caplog.text


def test_a_value_that_the_sdk_does_not_take_stops_nothing(caplog, monkeypatch):
    def refuses(_part, _instance):
        raise ValueError("hunter2")

    monkeypatch.setattr("tasks.tracing_sdk.tracer_of", refuses)
    assert start("bridge", environ=dict(ENDPOINT)) is NO_TRACER
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setattr("tasks.tracing_sdk.tracer_of", lambda _part, _instance: NO_TRACER)
    environ = ENDPOINT | {"OTEL_TRACES_SAMPLER": "", "OTHER": ""}
    start("bridge", environ=environ)
    assert environ == ENDPOINT | {"OTHER": ""}


@pytest.mark.parametrize("module", ["bridge.main", "worker.process", "ops.controlplane.app"])
def test_without_an_endpoint_nothing_that_traces_is_loaded(module, tmp_path):
    """(redis-py looks for OpenTelemetry's metrics by itself.)"""
    code = (
        f"import sys, {module}; from tasks.tracing import start; start('x');"
        "print([name for name in sys.modules if name == 'tasks.tracing_sdk' or 'opentelemetry.exporter' in name])"
    )
    env = {"PENDRA_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (SAMPLED, SAMPLED),
        (f" {SAMPLED} ", SAMPLED),
        (f"01-{TRACE}-{PARENT}-01-new", SAMPLED),
        (f"{SAMPLED}-more", ""),
        (SAMPLED.upper(), ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE}-{PARENT}", ""),
        (f"01-{TRACE}-{PARENT}-01-{'x' * 600}", ""),
        (f"{SAMPLED}\n{SAMPLED}", ""),
        ("tell me about my illness", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_trace_contexts(given, read):
    assert context_of(given) == read


def test_a_process_without_traces_passes_a_trace_on():
    span = NO_TRACER.begin("x", SAMPLED, {Fact.MODEL: "m"}, entry=True)
    span.event("e")
    span.end(error="bad")
    assert span.traceparent == SAMPLED
    NO_TRACER.close()


def test_what_is_not_on_the_list_cannot_be_said():
    traced = Traced()
    said = {"prompt": "secret", "gen_ai.input.messages": "secret", Fact.MODEL: "m" * 1000}
    span = traced.tracer.begin("x", "", said)
    span.event("e", said)
    span.end(said)
    (kept,) = traced.spans
    assert facts(kept) == {"gen_ai.request.model": "m" * 256}
    assert [set(event.attributes) for event in kept.events] == [{"gen_ai.request.model"}]
    assert "secret" not in traced.text


def test_a_span_ends_once():
    traced = Traced()
    span = traced.tracer.begin("x", "")
    span.end({Fact.OUTCOME: "finished"})
    span.end(error="late")
    assert facts(traced.the("x")) == {"pendra.outcome": "finished"}


def test_a_library_on_this_thread_is_no_parent():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    traced = Traced()
    with TracerProvider(shutdown_on_exit=False).get_tracer("library").start_as_current_span("theirs"):
        traced.tracer.begin("x", "").end()
        assert trace.get_current_span().get_span_context().is_valid
    assert traced.the("x").parent is None


def test_the_sampler_of_the_environment(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    traced = Traced()
    span = traced.tracer.begin("x", "")
    span.end()
    assert traced.spans == []
    assert not int(span.traceparent[-2:]) & 1  # the flag "sampled"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "pendra-test"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,service.instance.id=i"}, "theirs"),
    ],
)
def test_who_sends(monkeypatch, environ, name):
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    traced = Traced()
    traced.tracer.begin("x", "").end()
    said = dict(traced.the("x").resource.attributes)
    assert (said["service.name"], said["pendra.part"]) == (name, "test")
    assert said["service.instance.id"] == ("i" if name == "theirs" else "w1")


def test_the_page_names_every_fact():
    page = (ROOT / "docs" / "traces.md").read_text()
    assert [fact for fact in Fact if f"`{fact}`" not in page] == []
    assert set(re.findall(r"`((?:pendra|gen_ai|error|http)\.[a-z_.]+)`", page)) - set(Fact) == {
        "pendra.worker.load",
        "pendra.bridge.job",
    }


def test_words_for_kinds_and_counts():
    assert tracing.operation_of(JobKind.COMPLETION) == "text_completion"
    assert facts_of(JobKind.EMBEDDINGS, "r")[Fact.OPERATION] == "embeddings"
    assert facts_of_usage(Usage()) == facts_of_usage(None) == {}
