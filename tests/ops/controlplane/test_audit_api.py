"""The newest checkpoints over HTTP, for admins."""

from __future__ import annotations

import httpx

from bridge.audit_chain import Head, sign
from bridge.protocol import AuditCheckpoint
from ops.controlplane import audit_api
from tests.ops.controlplane.running import Running

PATH = "/api/v1/admin/audit"


def keep(plane: Running, log: str, line: int) -> None:
    sent = sign(plane.identity, log, Head(line, f"{line:064x}"), now=1_800_000_000.0 + line)
    frame = AuditCheckpoint.model_validate(sent.model_dump())
    plane.plane.checkpoints.keep((plane.identity.public_key, "wrk-1"), frame)


def test_the_newest_of_all_logs_first(plane: Running, monkeypatch) -> None:
    assert httpx.get(plane.url + PATH, headers=plane.headers).json()["data"] == []
    for log, line in (("a", 1), ("b", 5), ("a", 9)):
        keep(plane, log, line)
    rows = httpx.get(plane.url + PATH, headers=plane.headers).json()["data"]
    assert [(row["log"], row["line"]) for row in rows] == [("a", 9), ("b", 5), ("a", 1)]
    assert rows[0]["head"] == f"{9:064x}"
    monkeypatch.setattr(audit_api, "SHOWN", 1)
    assert len(httpx.get(plane.url + PATH, headers=plane.headers).json()["data"]) == 1


def test_it_needs_an_admins_key(plane: Running) -> None:
    user = plane.plane.keys.create("user")
    reply = httpx.get(plane.url + PATH, headers={"x-api-key": user})
    assert (reply.status_code, reply.json()["code"]) == (403, "admin_key_needed")
