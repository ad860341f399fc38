"""`/ws/gpu`: who gets in, who does not and why, and what ends a link."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bridge.identity import Identity, generate_nonce, generate_seed
from bridge.protocol import CloseCode, JobMark, Resume, Welcome, encode
from ops.controlplane.db import Database
from ops.controlplane.registry import Registry
from tests.fakes.waiting import until
from tests.ops.controlplane.fake_bridge import FakeBridge
from tests.ops.controlplane.running import QUICK, Running


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"protocol": 0}, CloseCode.OLD_PROTOCOL, "protocol 0 is too old"),
        ({"nonce": generate_nonce()}, CloseCode.REPLAYED_NONCE, "replayed nonce"),
        ({"skew": -400}, CloseCode.CLOCK_SKEW, "clock is off by -400 s"),
        ({"signature": "AAAA"}, CloseCode.BAD_SIGNATURE, "signature"),
        ({"worker_id": "wrk-someone-else"}, CloseCode.BAD_SIGNATURE, "signature"),
        ({"public_key": "x"}, CloseCode.BAD_SIGNATURE, "signature"),
    ],
)
async def test_a_bad_hello(plane: Running, changes: dict[str, object], code: CloseCode, words: str) -> None:
    bridge = plane.bridge()
    await bridge.send(bridge.hello(await bridge.open(), **changes))
    closed_with, reason = await bridge.closed()
    assert closed_with == code
    assert words in (reason or "")


async def test_an_unknown_and_a_revoked_key(plane: Running) -> None:
    stranger = plane.bridge(Identity.from_base64(generate_seed()))
    await stranger.send(stranger.hello(await stranger.open()))
    assert (await stranger.closed())[0] == CloseCode.PENDING
    db = Database(plane.home)
    try:
        assert Registry(db).revoke(plane.identity.public_key)
    finally:
        db.close()
    revoked = plane.bridge()
    await revoked.send(revoked.hello(await revoked.open()))
    assert (await revoked.closed())[0] == CloseCode.REVOKED


async def test_a_hello_is_good_once(plane: Running) -> None:
    first, second = plane.bridge(), plane.bridge()
    hello = first.hello(await first.open())
    await first.send(hello)
    await second.open()
    await second.send(hello)
    assert (await second.closed())[0] == CloseCode.REPLAYED_NONCE
    await first.send(hello)  # the link is up; a hello is out of place there, but does no harm
    await first.send_text("{}")
    assert (await first.closed())[0] == CloseCode.BAD_FRAME


@pytest.mark.parametrize("text", ["", "{", '{"type":"nonsense"}', encode(Resume(jobs=(JobMark(job_id="x"),))), "[]"])
async def test_the_first_frame_must_be_hello(plane: Running, text: str) -> None:
    bridge = plane.bridge()
    await bridge.open()
    await bridge.send_text(text)
    code, reason = await bridge.closed()
    assert code == CloseCode.BAD_FRAME
    assert reason


async def test_no_hello_in_time(tmp_path: Path) -> None:
    running = Running(tmp_path, replace(QUICK, handshake_s=0.1))
    running.start()
    bridge = running.bridge()
    await bridge.open()
    assert await bridge.closed() == (CloseCode.HANDSHAKE_TIMEOUT, "no hello came within 0.1 s")
    running.stop()


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"chunk","events":[{"job_id":"a","seq":"1","data":"x"}]}',
        '{"type":"chunk","events":3}',
        '{"type":"chunk",',
        '{"type":"result","job_id":"a"}',
        "pelican",
    ],
)
async def test_a_bad_frame_ends_the_link_without_quoting_it(bridge: FakeBridge, text: str) -> None:
    await bridge.send_text(text)
    code, reason = await bridge.closed()
    assert code == CloseCode.BAD_FRAME
    assert reason
    assert "pelican" not in reason


async def test_a_second_connection_of_the_same_bridge_replaces_the_first(plane: Running, bridge: FakeBridge) -> None:
    async with plane.bridge():
        assert (await bridge.closed())[0] == CloseCode.REPLACED
        assert plane.ready()


async def test_two_bridges_side_by_side(plane: Running, bridge: FakeBridge, api: httpx.AsyncClient) -> None:
    other = plane.bridge()
    other.worker_id = "wrk-other"
    await other.connect()
    until(lambda: httpx.get(f"{plane.url}/healthz").json()["workers"] == 2)
    await other.close()
    until(lambda: httpx.get(f"{plane.url}/healthz").json()["workers"] == 1)


async def test_what_the_registry_knows_afterwards(plane: Running, bridge: FakeBridge) -> None:
    db = Database(plane.home)
    try:
        row = Registry(db).find(plane.identity.public_key)
    finally:
        db.close()
    assert row is not None
    assert (row.worker_id, row.name, row.status) == (bridge.worker_id, "test bridge", "registered")
    assert row.last_seen is not None


async def test_stopping_says_so(plane: Running, bridge: FakeBridge) -> None:
    plane.stop()
    assert (await bridge.closed())[0] == CloseCode.SHUTTING_DOWN


async def test_the_welcome_of_a_new_bridge_is_empty(plane: Running) -> None:
    bridge = plane.bridge()
    welcome = await bridge.connect()
    assert isinstance(welcome, Welcome)
    assert welcome.resume == ()
    await bridge.close()
