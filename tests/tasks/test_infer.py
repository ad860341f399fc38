"""The inference task: hands the ids over and keeps everything else to itself."""

from __future__ import annotations

import logging

import pytest

from tasks import hooks
from tasks.celery_app import make_app
from tasks.errors import ConfigError
from tasks.infer import infer


class FakeProcess:
    def __init__(self) -> None:
        self.served: list[tuple[str, int]] = []

    def serve(self, job_id: str, attempt: int) -> None:
        self.served.append((job_id, attempt))


@pytest.fixture
def process(monkeypatch) -> FakeProcess:
    import worker.process

    fake = FakeProcess()
    monkeypatch.setattr(worker.process, "_current", fake)
    return fake


@pytest.fixture
def app():
    app = make_app("redis://127.0.0.1:1/0")
    app.loader.import_default_modules()
    return app


def test_it_is_known_by_name_only(app):
    assert app.tasks["tasks.infer"].name == infer.name == "tasks.infer"
    assert app.tasks["tasks.infer"].ignore_result is True
    assert app.tasks["tasks.infer"].acks_late is False


def test_it_serves_the_job_and_returns_nothing(process):
    assert infer("job-1", 2, "model", 100) is None
    assert infer("job-2", 0) is None
    assert process.served == [("job-1", 2), ("job-2", 0)]


def test_outside_a_worker_it_says_so():
    with pytest.raises(ConfigError, match="pendra worker"):
        infer("job-1", 0)


def test_the_hooks_log_how_long_it_took_and_no_arguments(app, process, caplog):
    caplog.set_level(logging.INFO)
    hooks.connect()
    hooks.connect()  # harmless
    app.tasks["tasks.infer"].apply(args=("job-1", 0, "a-secret-model", 7))
    (line,) = [record.getMessage() for record in caplog.records if "task.done" in record.getMessage()]
    assert "task=tasks.infer" in line
    assert "state=SUCCESS" in line
    assert "ms=" in line
    assert "secret" not in caplog.text


def test_what_should_not_happen_is_told_by_type_and_place_only(app, monkeypatch, process, caplog):
    def broken(job_id, attempt):
        raise ValueError("a-secret-prompt")

    monkeypatch.setattr(process, "serve", broken)
    hooks.connect()
    result = app.tasks["tasks.infer"].apply(args=("job-1", 0))
    assert "error=ValueError" in caplog.text
    assert "test_infer.py" in caplog.text
    assert "task.failed" in caplog.text
    assert "a-secret-prompt" not in caplog.text + str(result.result) + str(result.traceback)
