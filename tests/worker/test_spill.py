"""Replies too large for an event lie beside it, in pieces."""

from __future__ import annotations

import pytest

from tasks import blobs, keys
from tasks.contract import Chunk, Failed, Finished, Job
from tasks.events import open_event, unpack
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener, Sealer
from worker.publisher import Publisher
from worker.spill import spilled

KEY = FleetKey(bytes(32))
SEALER = Sealer(KEY)


def finished(data: str | None) -> Finished:
    return Finished(job_id="j", attempt=2, seq=1, data=data)


@pytest.mark.parametrize("data", [None, "{}", "x" * blobs.INLINE_BYTES])
def test_what_fits_stays(data):
    assert spilled(finished(data), SEALER) == (finished(data), None)


def test_chunks_stay():
    chunk = Chunk(job_id="j", attempt=0, seq=1, data="x" * 2 * blobs.INLINE_BYTES)
    assert spilled(chunk, SEALER) == (chunk, None)


def test_a_large_reply_is_measured_in_bytes_and_bound_to_its_attempt():
    event, laid = spilled(finished("ä" * blobs.INLINE_BYTES), SEALER)
    assert isinstance(event, Finished)
    assert event.data is None
    assert event.blob == blobs.ref_of("reply.2", 2 * blobs.INLINE_BYTES)
    assert laid is not None
    assert laid.key == keys.reply("j")
    assert laid.size > 2 * blobs.INLINE_BYTES


def test_beyond_the_limit_it_fails_with_the_limit(monkeypatch):
    monkeypatch.setattr(blobs, "MAX_REPLY_BYTES", blobs.MIB)
    event, laid = spilled(finished("x" * (blobs.MIB + 1)), SEALER)
    assert isinstance(event, Failed)
    assert (event.code, laid) == ("reply_too_large", None)
    assert "1 MiB" in event.message


def test_the_publisher_lays_it_down_before_the_event(redis_url):
    text = "x" * 3_000_000
    with connect(redis_url) as client:
        publisher = Publisher(client, "w", SEALER)
        publisher.start()
        reply = publisher.open(Job(job_id="j", model="m", body={}, created=0, bridge_id="b"))
        reply.finish(text)
        assert reply.wait(30)
        publisher.stop()
        ((_, row),) = client.xrange(keys.replay("b"))
        event = open_event(unpack(row[b"b"])[0], Opener(KEY))
        assert isinstance(event, Finished)
        assert event.blob is not None
        pieces = client.hmget(keys.reply("j"), blobs.fields(event.blob))
        assert blobs.opened(Opener(KEY), keys.reply("j"), event.blob, pieces).decode() == text
        assert 0 < client.ttl(keys.reply("j")) <= keys.REPLAY_TTL_S
        assert len(row[b"b"]) < 1000
