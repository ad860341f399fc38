from __future__ import annotations

import pytest

from bridge import replies
from bridge.jobs import JobRecord
from bridge.protocol import MAX_FRAME_BYTES, ChunkEvent, ChunkFrame, decode_bridge
from tasks.errors import BusyError, WorkerError
from tests.bridge.builders import finished, job

HARD = ['plain {"a": 1}', 'quotes " and \\ back', "new\nline\x00\x1f", "日本語 🎉", "\u2028 </script>", ""]


@pytest.mark.parametrize("data", HARD)
def test_the_hand_written_chunk_frame_says_what_the_model_would(data: str) -> None:
    text = replies.chunk_frame([replies.chunk_event('odd "id"', 7, data), replies.chunk_event("b", 0, "x")])
    events = (ChunkEvent(job_id='odd "id"', seq=7, data=data), ChunkEvent(job_id="b", seq=0, data="x"))
    assert decode_bridge(text) == ChunkFrame(events=events)


def test_many_chunks_are_one_frame_until_it_would_be_too_large() -> None:
    events = [replies.chunk_event("j", seq, "é" * 1000) for seq in range(600)]
    frames = list(replies.chunk_frames(events))
    assert len(frames) == 3
    assert all(len(frame.encode()) < MAX_FRAME_BYTES for frame in frames)
    assert sum(frame.count('"seq"') for frame in frames) == 600


def test_a_replay_keeps_the_order_and_joins_chunks() -> None:
    a, b = (replies.chunk_event("j", seq, "x") for seq in (1, 2))
    items = [
        (0, "first", False),
        (1, a, True),
        (2, b, True),
        (3, "last", False),
    ]
    assert list(replies.replayed(items)) == ["first", replies.chunk_frame([a, b]), "last"]


def test_a_result_too_large_for_a_frame_is_an_error() -> None:
    with pytest.raises(WorkerError, match="larger than a frame") as caught:
        replies.result(JobRecord(job(), arrived=0.0), finished(1, data="x" * MAX_FRAME_BYTES), "1")
    assert caught.value.code == "reply_too_large"


def test_an_error_carries_status_and_retry_after() -> None:
    frame = decode_bridge(replies.error("j", 3, BusyError("full", retry_after=7), ("w1", "W")))
    assert frame.type == "error"
    assert (frame.status, frame.retry_after, frame.worker_id) == (429, 7, "w1")
