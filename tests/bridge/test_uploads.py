"""Jobs with parts, and large replies, through the session."""

from __future__ import annotations

import base64

import pytest

from bridge import uploads
from bridge.effects import Acquire, DropBlobs, Enqueue, SendReply, StoreBlob
from bridge.gathering import SILENCE_S
from bridge.protocol import Ack, Blob, Cancel
from tasks import keys
from tasks.contract import BlobRef, Finished
from tests.bridge.builders import Driven, claimed, failed, job, worker

REF = BlobRef(name="reply.0", size=300_000, pieces=2)


def blob(index: int, data: bytes = b"abc", *, last: bool = False, name: str = "file") -> Blob:
    return Blob(job_id="j1", name=name, index=index, data=base64.b64encode(data).decode(), last=last)


@pytest.fixture
def bridge() -> Driven:
    return Driven(worker())


def upload(bridge: Driven) -> Acquire:
    assert bridge.send(job(blobs=("file",))) == []
    bridge.send(blob(0))
    (store, acquire) = bridge.send(blob(1, last=True))
    assert store == StoreBlob("j1", "file", 1, b"abc")
    assert isinstance(acquire, Acquire)
    return acquire


def test_pieces_are_laid_down_before_the_job_and_named_in_it(bridge):
    acquire = upload(bridge)
    assert acquire.job.blobs == (BlobRef(name="file", size=6, pieces=2),)
    assert [e.index for e in bridge.effects if isinstance(e, StoreBlob)] == [0, 1]
    assert len(bridge.of("accepted")) == 1


def test_the_next_attempt_finds_them_and_the_end_drops_them(bridge):
    bridge.beat(worker("w2"))
    taken = bridge.take(upload(bridge))
    bridge.events(claimed(), worker_id=taken.queue.removeprefix("worker."))
    effects = bridge.events(failed(1, retryable=True))
    again = next(e for e in effects if isinstance(e, Acquire))
    assert again.job.attempt == 1
    assert again.job.blobs == (BlobRef(name="file", size=6, pieces=2),)
    assert not [e for e in effects if isinstance(e, DropBlobs)]
    bridge.take(again)
    bridge.events(claimed(seq=1, attempt=1))
    last = bridge.events(failed(2, attempt=1, code="bad_request"))
    assert DropBlobs("j1", keys.blobs("j1")) in last


def test_a_successor_knows_where_they_are(bridge):
    upload(bridge)
    assert bridge.registry["j1"].frame.laid == (BlobRef(name="file", size=6, pieces=2),)


def test_the_api_cannot_say_where_parts_lie(bridge):
    (acquire,) = bridge.send(job(laid=(BlobRef(name="file", size=1, pieces=1),)))
    assert isinstance(acquire, Acquire)
    assert acquire.job.blobs == ()


def test_a_job_that_nobody_could_run_is_refused_before_its_file_comes(bridge):
    bridge.send(job(model="other", blobs=("file",)))
    assert len(bridge.of("error")) == 1
    assert bridge.send(blob(0)) == []


def test_a_bad_piece_ends_the_job(bridge):
    bridge.send(job(blobs=("file",)))
    assert bridge.send(blob(1)) == [DropBlobs("j1", keys.blobs("j1"))]
    assert [(e["code"], e["status"]) for e in bridge.of("error")] == [("bad_blob", 400)]


def test_a_cancel_drops_what_came(bridge):
    bridge.send(job(blobs=("file",)))
    bridge.send(blob(0))
    assert bridge.send(Cancel(job_id="j1")) == [DropBlobs("j1", keys.blobs("j1"))]
    assert bridge.send(blob(1)) == []


def test_a_lost_link_drops_what_came(bridge):
    bridge.send(job(blobs=("file",)))
    bridge.session.unlinked()
    assert DropBlobs("j1", keys.blobs("j1")) in bridge.tick()


def test_an_upload_that_stalls_is_an_error(bridge):
    bridge.send(job(blobs=("file",)))
    bridge.tick(SILENCE_S + 0.2, worker())
    assert [e["code"] for e in bridge.of("error")] == ["blob_lost"]


def test_a_redis_that_does_not_take_a_piece_ends_the_job(bridge):
    acquire = upload(bridge)
    bridge.do(bridge.session.pieces.failed("j1", bridge.now))
    assert [e["code"] for e in bridge.of("error")] == ["redis_unavailable"]
    assert acquire.job.job_id == "j1"


def test_pieces_that_redis_does_not_take_in_time_are_bounded(bridge, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UNWRITTEN", 5)
    bridge.send(job(blobs=("file",)))
    bridge.send(blob(0))
    bridge.send(blob(1))
    assert [e["code"] for e in bridge.of("error")] == ["redis_unavailable"]
    bridge.session.pieces.stored(6)


def finish(bridge: Driven) -> list:
    bridge.start(stream=False)
    return bridge.events(Finished(job_id="j1", attempt=0, seq=1, blob=REF))


def test_a_large_reply_is_sent_beside_its_result_and_dropped_when_it_arrived(bridge):
    assert SendReply("j1", REF) in finish(bridge)
    (result,) = bridge.of("result")
    assert result["blob"] == {"name": "reply.0", "size": 300_000, "pieces": 2}
    assert bridge.send(Ack(job_id="j1", seq=1)) == [DropBlobs("j1", keys.reply("j1"))]


def test_after_a_reconnect_it_is_sent_again(bridge):
    finish(bridge)
    bridge.session.unlinked()
    bridge.clear()
    bridge.link(j1=0)
    assert SendReply("j1", REF) in bridge.effects


def test_a_reply_that_cannot_be_read_is_taken_back(bridge):
    finish(bridge)
    bridge.do(bridge.session.pieces.reply_lost("j1", bridge.now))
    assert [e["code"] for e in bridge.of("error")] == ["blob_lost"]


def test_a_job_that_waits_for_its_file_is_not_enqueued(bridge):
    bridge.send(job(blobs=("file",)))
    bridge.tick(1.0, worker())
    assert not [e for e in bridge.effects if isinstance(e, Acquire | Enqueue)]
