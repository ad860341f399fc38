"""Task messages with arguments nobody meant: from scripts, from Flower, from somebody on Redis."""

from __future__ import annotations

import logging
from collections import Counter
from random import Random
from typing import Any

import pytest

from tasks.errors import WorkerError
from tasks.infer import infer
from tasks.install import InstallError, install_model, uninstall_model
from tests.fuzz.cases import Fuzzer, quotes_nothing
from tests.fuzz.mutation import document, mutated, text
from worker import installer_agent, process
from worker.store.errors import SourceError
from worker.store.sources import parse_source

SECRET = "quartzplume"
GOOD = {"model": "m", "source": "https://x/y.gguf", "sha256": "ab" * 32, "size": 1, "purpose": "chat", "mirrors": []}


class Told:
    """Stands in for the agent and the serving process: keeps what got through to them."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def install(self, request: Any, _task: Any) -> dict[str, Any]:
        assert isinstance(request.model, str)
        self.seen["install"] += 1
        return {}

    def uninstall(self, model: str, _backend: Any, *, force: bool, task_id: str) -> dict[str, Any]:
        assert isinstance(model, str)
        self.seen["uninstall"] += 1
        return {}

    def serve(self, _job_id: Any, attempt: int) -> None:
        assert isinstance(attempt, int)
        self.seen["serve"] += 1


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.CRITICAL + 1, "pendra")
    made = Told()
    monkeypatch.setattr(installer_agent, "current", lambda: made)
    monkeypatch.setattr(process, "current", lambda: made)
    return made


def test_arguments_of_tasks(fuzzer: Fuzzer, told: Told) -> None:
    def case(rng: Random) -> None:
        given = mutated(GOOD, rng)
        given = given if isinstance(given, dict) else {"model": given}
        ways = (
            lambda: install_model.run(**{k: v for k, v in given.items() if k in GOOD}),
            lambda: uninstall_model.run(document(rng), document(rng), force=document(rng)),
            lambda: infer.run(rng.choice(("j", document(rng))), rng.choice((0, document(rng)))),
        )
        try:
            rng.choice(ways)()
        except (InstallError, WorkerError) as exc:
            told.seen["refused"] += 1
            quotes_nothing(exc, SECRET)
        except TypeError as exc:  # a task's own signature: Celery answers that one
            quotes_nothing(exc, SECRET)
            told.seen["unfit"] += 1

    fuzzer.run(case, sample=500, all_of_them=10_000)
    assert all(told.seen[kind] > 5 for kind in ("install", "uninstall", "serve", "refused")), told.seen


def test_sources_of_models(fuzzer: Fuzzer) -> None:
    urls = ("https://h.example/a/b.gguf", "hf://org/repo/f.gguf@main", "pypi://p/1.0/a/b.gguf", "file:///srv/m.gguf")

    seen: Counter[str] = Counter()

    def case(rng: Random) -> None:
        url = rng.choice(urls)
        at = rng.randrange(len(url) + 1)
        try:
            source = parse_source(url[:at] + text(rng) + url[at + rng.randrange(3) :])
        except SourceError:
            seen["refused"] += 1
        else:
            seen["taken"] += 1
            assert not {"/", "\\", "\0"} & set(source.filename)  # it becomes a file's name in the store

    fuzzer.run(case, sample=500, all_of_them=10_000)
    assert min(seen["refused"], seen["taken"]) > 5, seen
