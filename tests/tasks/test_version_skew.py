"""Peers one minor version apart understand each other: new fields have defaults, unknown ones are ignored.

The table says what a message must have. A field that joins it breaks every older peer; a field that leaves it breaks
none, but every newer one that counts on it being sent.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import msgpack
import pytest
from pydantic import BaseModel

from tasks import contract, figures
from tasks.contract import CONTRACT_VERSION, EVENT, understands
from tasks.errors import SealError
from tasks.events import pack, unpack
from tasks.frozen import Frozen
from tasks.sealing import FleetKey, Sealer

AT = {"job_id", "attempt", "seq"}
REQUIRED: dict[str, set[str]] = {
    "Resume": set(),
    "BlobRef": {"name", "size", "pieces"},
    "Job": {"job_id", "model", "body", "created", "bridge_id"},
    "Usage": set(),
    "Timing": set(),
    "Notice": {"code", "message"},
    "_Event": AT,
    "Claimed": {*AT, "worker_id"},
    "Progress": {*AT, "stage"},
    "Chunk": {*AT, "data"},
    "Finished": AT,
    "Failed": {*AT, "code", "message"},
    "ModelInfo": {"id"},
    "BackendReport": {"product", "state"},
    "WorkerInfo": {"worker_id", "epoch", "name", "node", "pid", "version", "device", "slots_total"},
    "JobRow": {"job_id", "model", "state"},
    "Overview": {"bridge_id", "total"},
    "InstallRequest": {"model"},
    "InstallProgress": {"model", "node", "stage"},
    "EngineFigures": {"model"},
    "LoadFigures": {"model"},
    "GpuFigures": {"uuid"},
}
VALUES: dict[str, Any] = {
    "size": 1, "pieces": 1, "attempt": 0, "seq": 0, "pid": 1, "slots_total": 1, "created": 1, "total": 1, "body": {},
}  # fmt: skip


def models() -> dict[str, type[BaseModel]]:
    parts = [
        importlib.import_module(part.name) for part in pkgutil.iter_modules(contract.__path__, "tasks.contract.")
    ]
    found = [one for module in (*parts, figures) for one in vars(module).values() if isinstance(one, type)]
    return {one.__name__: one for one in found if issubclass(one, Frozen) and one is not Frozen}


def least(name: str) -> dict[str, Any]:
    """What the oldest peer sends."""
    made = {field: VALUES.get(field, "found") for field in REQUIRED[name]}
    return made | {"type": name.lower()} if REQUIRED[name] >= AT else made


def test_no_message_of_the_contract_is_left_out() -> None:
    assert models().keys() == REQUIRED.keys()


@pytest.mark.parametrize("name", REQUIRED)
def test_what_a_message_must_have_does_not_grow(name: str) -> None:
    fields = models()[name].model_fields
    assert {field for field, info in fields.items() if info.is_required()} == REQUIRED[name]


@pytest.mark.parametrize("name", REQUIRED)
def test_an_older_peers_message_without_the_newer_fields_is_understood(name: str) -> None:
    model = models()[name]
    assert model.model_validate(least(name)) == model.model_validate_json(
        model.model_validate(least(name)).model_dump_json()
    )


@pytest.mark.parametrize("name", REQUIRED)
def test_a_newer_peers_message_with_unknown_fields_is_understood(name: str) -> None:
    model = models()[name]
    assert model.model_validate(least(name) | {"from_the_future": [1]}) == model.model_validate(least(name))


def test_an_event_of_a_newer_peer_keeps_its_type() -> None:
    event = EVENT.validate_python(least("Chunk") | {"v": 2, "from_the_future": 1})
    assert type(event) is contract.Chunk


@pytest.mark.parametrize(("version", "ok"), [(0, True), (1, True), (2, True), (3, False), (-1, False), ("1", False)])
def test_one_version_more_or_less(version: object, ok: bool) -> None:  # noqa: FBT001
    assert CONTRACT_VERSION == 1, "write down the next one here"
    assert understands(version) is ok


def test_a_batch_of_a_neighbour_is_read_and_one_from_further_away_is_refused_in_words() -> None:
    whole = pack("w", [contract.Progress(job_id="j", attempt=0, seq=1, stage="x")], Sealer(FleetKey(bytes(32))))
    _, worker_id, rows = msgpack.unpackb(whole)
    newer = [[*row, "from the future"] for row in rows]
    assert unpack(msgpack.packb([CONTRACT_VERSION + 1, worker_id, newer])) == unpack(whole)
    with pytest.raises(SealError, match="version 9"):
        unpack(msgpack.packb([9, worker_id, rows]))
