from __future__ import annotations

import base64

import pytest

from bridge.gathering import SILENCE_S, Gathering
from bridge.protocol import MAX_BLOB_BYTES, Blob
from tasks.contract import BlobRef
from tasks.errors import BadRequestError
from tests.bridge.builders import job


def piece(index: int, data: bytes = b"x", name: str = "file", *, last: bool = False) -> Blob:
    return Blob(job_id="j1", name=name, index=index, data=base64.b64encode(data).decode(), last=last)


def gathering(*names: str, limit: int = 10_000_000) -> Gathering:
    made = Gathering(limit)
    made.begin(job(blobs=names or ("file",)), 0.0)
    return made


def test_a_job_is_complete_with_the_last_piece_of_its_last_part():
    parts = gathering("file", "body")
    for one in (piece(0, b"ab"), piece(0, b"{}", "body", last=True), piece(1, b"c", last=True)):
        assert parts.complete("j1") is None
        parts.take(one, 1.0)
    whole = parts.complete("j1")
    assert whole is not None
    assert whole.laid == (BlobRef(name="file", size=3, pieces=2), BlobRef(name="body", size=2, pieces=1))
    assert "j1" not in parts


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (piece(1), "not the one that was expected"),
        (piece(0, name="other"), "not the one that was expected"),
        (piece(0, bytes(MAX_BLOB_BYTES + 1)), "larger than"),
        (Blob(job_id="j1", name="file", index=0, data="%%"), "not base64"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_code(bad, words):
    with pytest.raises(BadRequestError, match=words) as caught:
        gathering().take(bad, 0.0)
    assert caught.value.code == "bad_blob"


def test_nothing_follows_the_last_piece():
    parts = gathering("file", "body")
    parts.take(piece(0, last=True), 0.0)
    with pytest.raises(BadRequestError):
        parts.take(piece(1), 0.0)


def test_all_parts_together_are_bounded():
    parts = gathering("file", "body", limit=3)
    parts.take(piece(0, b"ab"), 0.0)
    with pytest.raises(BadRequestError) as caught:
        parts.take(piece(0, b"cd", "body"), 0.0)
    assert caught.value.code == "request_too_large"


def test_a_silent_upload_is_overdue():
    parts = gathering()
    parts.take(piece(0), 5.0)
    assert parts.overdue(5.0 + SILENCE_S) == []
    assert parts.overdue(5.1 + SILENCE_S) == ["j1"]
