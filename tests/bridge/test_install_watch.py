"""The states of install tasks: read from the result backend, told in our words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.install_watch import InstallWatch, problem_of
from tasks.contract import InstallProgress
from tasks.errors import PendraError


class Told:
    def __init__(self, *tasks: str) -> None:
        self.tasks = tasks
        self.progress: list[tuple[str, str]] = []
        self.ended: list[tuple[str, dict[str, Any] | None, str | None]] = []

    def install_tasks(self) -> tuple[str, ...]:
        return self.tasks

    def install_progress(self, task_id: str, progress: InstallProgress) -> None:
        self.progress.append((task_id, progress.stage))

    def install_ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None:
        self.ended.append((task_id, result, problem.code if problem else None))


class FakeRedis:
    def __init__(self, **metas: dict[str, Any]) -> None:
        self.metas = {f"celery-task-meta-{name}": json.dumps(meta) for name, meta in metas.items()}

    async def mget(self, names: list[str]) -> list[str | None]:
        return [self.metas.get(name) for name in names]


async def test_each_state_is_told():
    going = {"model": "m", "node": "n", "stage": "downloading", "done": 1, "total": 2, "of": "a newer agent"}
    failed = {"exc_type": "InstallError", "exc_message": ["[disk_full] no room"], "exc_module": "tasks.install"}
    redis = FakeRedis(
        a={"status": "PROGRESS", "result": going},
        b={"status": "SUCCESS", "result": {"model": "m"}},
        c={"status": "FAILURE", "result": failed},
        d={"status": "REVOKED", "result": None},
        e={"status": "STARTED", "result": {"pid": 1}},
        f={"status": "PROGRESS", "result": {"odd": 1}},
    )
    told = Told("a", "b", "c", "d", "e", "f", "unknown")
    await InstallWatch(redis, told).look()  # type: ignore[arg-type]
    assert told.progress == [("a", "downloading")]
    assert told.ended == [("b", {"model": "m"}, None), ("c", None, "disk_full"), ("d", None, "cancelled")]


@pytest.mark.parametrize("result", [None, "text", {}, {"exc_message": ["Traceback"]}, {"exc_message": []}])
def test_what_has_no_code_is_not_quoted(result: Any):
    assert problem_of("FAILURE", result).code == "internal_error"
