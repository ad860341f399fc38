"""Logs: stable actions, two forms, and nothing of a prompt or a key in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from tasks import logs
from tasks.contract import Job
from tasks.errors import BadRequestError, ConfigError
from tasks.settings import Settings, load_settings

SECRET = "the patient has a rare disease"


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("pendra.test")
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


def capture(logger: logging.Logger, formatter: logging.Formatter) -> io.StringIO:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(logs.Redact())
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    return out


def test_the_text_form(log: logging.Logger):
    out = capture(log, logs.Text())
    logs.event(log, logging.INFO, "engine.loaded", model="smollm2:135m", ms=812.5, path="/a b", found=None, ok=True)
    line = out.getvalue()
    assert line.endswith(
        ' INFO pendra.test engine.loaded model=smollm2:135m ms=812.5 path="/a b" found=null ok=true\n'
    )


def test_the_json_form(log: logging.Logger):
    out = capture(log, logs.JsonLines("worker"))
    logs.event(log, logging.WARNING, "redis.lost", retry_s=0.5, queues={"a"}, level="x")
    row = json.loads(out.getvalue())
    assert row["action"] == "redis.lost"
    assert row["level"] == "warning"
    assert row["logger"] == "pendra.test"
    assert row["role"] == "worker"
    assert row["retry_s"] == 0.5
    assert row["queues"] == ["a"]
    assert row["field_level"] == "x"  # a field never hides the form's own


def test_tests_can_count_actions(log: logging.Logger, caplog: pytest.LogCaptureFixture):
    logs.event(log, logging.WARNING, "a.b", n=1)
    assert [(record.action, record.fields) for record in caplog.records] == [("a.b", {"n": 1})]


def test_nothing_is_made_when_the_level_is_off(log: logging.Logger):
    class Expensive:
        def __str__(self) -> str:
            raise AssertionError

    out = capture(log, logs.Text())
    log.setLevel(logging.ERROR)
    logs.event(log, logging.INFO, "a.b", value=Expensive())
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "name",
    [
        "prompt",
        "messages",
        "content",
        "body",
        "Authorization",
        "key",
        "api_key",
        "fleet_key",
        "token",
        "seed",
        "text",
    ],
)
@pytest.mark.parametrize("formatter", [logs.Text(), logs.JsonLines("x")])
def test_fields_named_like_content_or_secrets_are_dropped(name: str, formatter: Any, log: logging.Logger):
    out = capture(log, formatter)
    logs.event(log, logging.INFO, "a.b", **{name: SECRET}, inside={name: SECRET})
    assert SECRET not in out.getvalue()
    assert "redacted" in out.getvalue()


def test_counts_under_such_names_pass(log: logging.Logger):
    out = capture(log, logs.Text())
    logs.event(log, logging.INFO, "a.b", tokens=12, prompt=3)
    assert "tokens=12 prompt=3" in out.getvalue()


def test_values_that_hold_content_are_not_printed(log: logging.Logger):
    out = capture(log, logs.JsonLines("x"))
    job = Job(job_id="j", model="m", body={"x": SECRET}, created=1, bridge_id="b")
    error = ValueError(SECRET)
    logs.event(
        log,
        logging.INFO,
        "a.b",
        job=job,
        raw=SECRET.encode(),
        secret=SecretStr(SECRET),
        error=error,
        many=[error, job],
    )
    assert SECRET not in out.getvalue()
    assert json.loads(out.getvalue())["error"] == "ValueError"


def test_a_field_cannot_forge_a_line(log: logging.Logger):
    out = capture(log, logs.Text())
    logs.event(log, logging.INFO, "a.b", model="x\n2026-01-01 ERROR forged")
    log.info("plain\nforged")
    assert len(out.getvalue().splitlines()) == 2


def test_a_long_value_is_cut(log: logging.Logger):
    out = capture(log, logs.Text())
    logs.event(log, logging.INFO, "a.b", model="x" * 10_000)
    assert len(out.getvalue()) < 700


@pytest.mark.parametrize("formatter", [logs.Text(), logs.JsonLines("x")])
def test_an_unknown_exception_is_logged_as_type_and_place(formatter: Any, log: logging.Logger):
    out = capture(log, formatter)
    with pytest.raises(RuntimeError) as caught:
        fail_twice()
    log.error("it failed", exc_info=caught.value)
    assert logs.where(caught.value).startswith("test_logs.py:")
    text = out.getvalue()
    assert SECRET not in text
    assert "RuntimeError" in text
    assert "JSONDecodeError" in text
    assert "fail_twice" in text


def fail_twice() -> None:
    try:
        json.loads(SECRET)
    except ValueError as exc:
        raise RuntimeError(SECRET) from exc


def test_our_own_errors_keep_their_words(log: logging.Logger):
    out = capture(log, logs.Text())
    log.error("refused", exc_info=BadRequestError("temperature must be at most 2"))
    assert "BadRequestError(bad_request): temperature must be at most 2" in out.getvalue()


def test_records_of_libraries_are_cleaned(log: logging.Logger):
    out = capture(log, logs.Text())
    log.info("task %s got %d args, said %s", "t", 2, {"prompt": SECRET})
    log.info("%(name)s %(body)s", {"name": "n", "body": SECRET})
    log.info("raw %s", SECRET.encode())
    assert SECRET not in out.getvalue()
    assert "task t got 2 args" in out.getvalue()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger as it was, afterwards."""
    logger, ours = logging.getLogger(), logging.getLogger("pendra")
    handlers, level, our_level = logger.handlers[:], logger.level, ours.level
    yield logger
    logging.captureWarnings(capture=False)
    for handler in logger.handlers[:]:
        if handler not in handlers:
            logger.removeHandler(handler)
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    ours.setLevel(our_level)


def settings_for(home: Path, **more: Any) -> Settings:
    return load_settings(home=home, worker_id="wrk-1", **more)


def test_configure_sends_to_a_private_file(root: logging.Logger, tmp_path: Path):
    path = tmp_path / "logs" / "worker.log"
    logs.configure(settings_for(tmp_path, log_file=path, log_format="json", log_level="DEBUG"), "worker")
    logs.event(logging.getLogger("pendra.x"), logging.DEBUG, "a.b", n=1)
    logging.getLogger("httpx").info("GET /")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["action"], row["role"]) for row in rows] == [("a.b", "worker")]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_client_cannot_fill_the_log_with_bad_forms(root: logging.Logger, tmp_path: Path):
    path = tmp_path / "x.log"
    logs.configure(settings_for(tmp_path, log_file=path), "controlplane")
    headers = Headers({"content-type": "multipart/form-data; boundary=b"})
    with pytest.raises(MultiPartException):
        await MultiPartParser(headers, pieces(b"no form at all")).parse()
    logs.event(logging.getLogger("pendra.x"), logging.INFO, "a.b")
    assert len(path.read_text().splitlines()) == 1
    assert logging.getLogger("python_multipart.multipart").getEffectiveLevel() == logging.CRITICAL


async def pieces(*data: bytes) -> AsyncGenerator[bytes, None]:
    for piece in data:
        yield piece


def test_configure_again_replaces(root: logging.Logger, tmp_path: Path):
    path = tmp_path / "x.log"
    for _ in range(2):
        logs.configure(settings_for(tmp_path, log_file=path), "worker")
    logs.event(logging.getLogger("pendra.x"), logging.INFO, "a.b")
    assert path.read_text().count("a.b") == 1


def test_a_log_file_that_cannot_be_opened_is_named(root: logging.Logger, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="PENDRA_LOG_FILE"):
        logs.configure(settings_for(tmp_path, log_file=tmp_path / "file" / "x.log"), "worker")
