"""Event batches: what is packed comes out again, and only with the key."""

from __future__ import annotations

import msgpack
import pytest

from tasks.contract import Chunk, Claimed, Failed, Finished, Notice, Progress, Timing, Usage
from tasks.errors import SealError
from tasks.events import Piece, open_body, open_event, pack, unpack
from tasks.sealing import FleetKey, Opener, Sealer

KEY = FleetKey(bytes(32))
EVENTS = [
    Claimed(job_id="a", attempt=0, seq=0, worker_id="w", worker_name="Wörker"),
    Progress(job_id="a", attempt=0, seq=1, stage="prefill", fraction=0.5),
    Chunk(job_id="b", attempt=2, seq=7, data='{"secret": "ü"}', tokens=(1, 2)),
    Chunk(job_id="b", attempt=2, seq=8, data='{"secret": "ü"}', tokens=None),
    Chunk(job_id="p", attempt=0, seq=1, data="{}", kid="k1", step=b"sealed", whole=True),
    Finished(job_id="a", attempt=0, seq=2, usage=Usage(prompt_tokens=3), timing=Timing(ttft_ms=1.5), notice=None),
    Finished(job_id="c", attempt=0, seq=9, data="{}", notice=Notice(code="x", message="y")),
    Failed(job_id="b", attempt=2, seq=8, code="worker_error", message="m", retryable=True),
]


def test_a_batch_round_trips_in_order():
    opener = Opener(KEY)
    envelopes = unpack(pack("w", EVENTS, Sealer(KEY)))
    assert [open_event(envelope, opener) for envelope in envelopes] == EVENTS
    assert {envelope.worker_id for envelope in envelopes} == {"w"}


def test_plain_chunks_are_opened_without_a_model_and_repr_without_their_text():
    opener = Opener(KEY)
    bodies = [open_body(envelope, opener) for envelope in unpack(pack("w", EVENTS, Sealer(KEY)))]
    assert [body for body in bodies if isinstance(body, Piece)] == [
        Piece('{"secret": "ü"}', (1, 2)),
        ('{"secret": "ü"}', None),
    ]
    assert "secret" not in repr(Piece("secret", ()))


def test_a_chunk_that_is_none_is_a_seal_error():
    from tasks.sealing import event_aad

    for body in (b"\x92", b"\x92\x01", b""):
        sealed = Sealer(KEY).seal(body, event_aad("j", 0, 0))
        batch = msgpack.packb([1, "w", [["j", 0, 0, sealed]]])
        with pytest.raises(SealError, match="contract version"):
            open_event(unpack(batch)[0], Opener(KEY))


def test_what_is_readable_without_the_key_are_ids_and_numbers():
    batch = pack("w", EVENTS, Sealer(KEY))
    assert b"secret" not in batch
    assert [(e.job_id, e.attempt, e.seq) for e in unpack(batch)] == [(e.job_id, e.attempt, e.seq) for e in EVENTS]


def test_an_event_renumbered_on_the_way_does_not_open():
    version, worker, rows = msgpack.unpackb(pack("w", EVENTS, Sealer(KEY)))
    rows[2][2] += 1
    with pytest.raises(SealError):
        open_event(unpack(msgpack.packb([version, worker, rows]))[2], Opener(KEY))


@pytest.mark.parametrize(
    "junk", [b"", b"\xc1", b"hello", msgpack.packb([1, "w"]), msgpack.packb({}), msgpack.packb([1, "w", [["j"]]])]
)
def test_junk_on_the_channel_is_a_seal_error(junk):
    with pytest.raises(SealError):
        unpack(junk)


def test_a_batch_of_another_version_says_so():
    with pytest.raises(SealError, match="contract version 99"):
        unpack(msgpack.packb([99, "w", []]))


def test_an_event_of_an_unknown_type_is_a_seal_error():
    from tasks.sealing import event_aad

    sealed = Sealer(KEY).seal(b'{"type": "novel"}', event_aad("j", 0, 0))
    batch = msgpack.packb([1, "w", [["j", 0, 0, sealed]]])
    with pytest.raises(SealError, match="contract version"):
        open_event(unpack(batch)[0], Opener(KEY))
