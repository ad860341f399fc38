"""What bridges say about the ends of their audit logs is kept, if they signed it, and never replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.audit_chain import Checkpoint, Head, sign
from bridge.identity import Identity, generate_seed
from bridge.protocol import AuditCheckpoint
from ops.controlplane import checkpoints as module
from ops.controlplane.checkpoints import CheckpointLog
from ops.controlplane.db import Database
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import FakeBridge
from tests.ops.controlplane.running import Running

US = Identity.from_base64(generate_seed())
BRIDGE = (US.public_key, "wrk-1")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CheckpointLog]:
    with closing(Database(tmp_path)) as db:
        yield CheckpointLog(db)


def frame(line: int = 3, digest: str = "ab" * 32, by: Identity = US) -> AuditCheckpoint:
    return AuditCheckpoint.model_validate(sign(by, "wrk-1", Head(line, digest), 1.0).model_dump())


def test_they_are_kept_in_order(log: CheckpointLog) -> None:
    for line in (3, 1, 2):
        log.keep(BRIDGE, frame(line))
    assert [one.line for one in log.all("wrk-1")] == [1, 2, 3]
    assert log.all("other") == []
    assert all(one.signed for one in log.all())


def test_the_first_word_counts(log: CheckpointLog, caplog: pytest.LogCaptureFixture) -> None:
    log.keep(BRIDGE, frame())
    log.keep(BRIDGE, frame())
    assert not caplog.records
    log.keep(BRIDGE, frame(digest="cd" * 32))
    assert [(record.action, record.levelno) for record in caplog.records] == [("audit.rewritten", logging.CRITICAL)]
    assert [one.head for one in log.all()] == ["ab" * 32]


@pytest.mark.parametrize(
    "bad",
    [frame(by=Identity.from_base64(generate_seed())), frame().model_copy(update={"line": 4})],
)
def test_what_the_bridge_did_not_sign_is_not_kept(log: CheckpointLog, bad: AuditCheckpoint) -> None:
    log.keep(BRIDGE, bad)
    assert log.all() == []


def test_old_ones_go(log: CheckpointLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for line in range(6):
        log.keep(BRIDGE, frame(line))
    assert [one.line for one in log.all()] == [3, 4, 5]


async def test_over_the_link(bridge: FakeBridge, plane: Running) -> None:
    made = sign(plane.identity, "wrk-1", Head(0, "ab" * 32), 1.0)
    await bridge.send(AuditCheckpoint.model_validate(made.model_dump()))
    await asyncio.to_thread(until, plane.plane.checkpoints.all)
    assert plane.plane.checkpoints.all() == [Checkpoint.model_validate(made.model_dump())]
