"""A real bridge writes its audit log, signs it, and stops taking requests when it cannot."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge import audit_files
from bridge.audit_chain import Checkpoint
from bridge.audit_files import files_of, lines_of
from bridge.audit_verify import verify
from tests.bridge.builders import job
from tests.integration.bridge_world import World, a_world, eventually

pytestmark = pytest.mark.integration
SECRET = "the patient has a rare disease"


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(redis_url, tmp_path) as made:
        yield made


def lines(home: Path) -> list[bytes]:
    return [line for log in home.glob("**/audit/*") for path in files_of(log) for line in lines_of(path)]


def everything(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.glob("**/audit/**/*") if path.is_file())


async def test_a_line_per_request_and_a_checkpoint_at_the_api(world: World, tmp_path: Path) -> None:
    worker = await world.worker()
    await world.api.send(job(body={"messages": [SECRET]}, tenant="key-1"))
    await world.claimed(worker)
    worker.chunk(1, SECRET)
    worker.finish(2)
    (frame,) = await eventually(lambda: world.api.of("audit_checkpoint"))
    checkpoint = Checkpoint.model_validate({k: v for k, v in frame.items() if k != "type"})
    written = lines(tmp_path)
    (row,) = [json.loads(line) for line in written]
    assert (row["job"], row["tenant"], row["outcome"], row["worker"]) == ("j1", "key-1", "finished", "w1")
    assert verify(written, [checkpoint], {checkpoint.public_key}).whole
    assert checkpoint.public_key in world.api.known
    assert SECRET.encode() not in everything(tmp_path)


async def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What runs ends well, what is new is refused; once there is room again, nothing is missing."""
    worker = await world.worker()
    await world.api.send(job("j1"))
    await world.api.send(job("j2"))
    await world.claimed(worker, "j1")
    await world.claimed(worker, "j2")
    real = audit_files._write_all

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_files, "_write_all", full)
    worker.finish(1, job_id="j1")
    await eventually(lambda: world.bridge.audit.failing)
    await world.api.send(job("j3"))
    (refused,) = await eventually(lambda: world.api.of("error", "j3"))
    assert refused["code"] == "audit_unavailable"
    worker.finish(1, job_id="j2")
    await eventually(lambda: world.api.of("result", "j2"))
    monkeypatch.setattr(audit_files, "_write_all", real)
    await eventually(lambda: not world.bridge.audit.failing)
    jobs = [json.loads(line).get("job") for line in lines(tmp_path)]
    assert sorted(filter(None, jobs)) == ["j1", "j2", "j3"]
