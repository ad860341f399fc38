from __future__ import annotations

import pytest

from tasks import blobs
from tasks.errors import SealError, WorkerError
from tasks.sealing import FleetKey, Opener, Sealer

KEY = FleetKey(bytes(32))
SEALER, OPENER = Sealer(KEY), Opener(KEY)


@pytest.mark.parametrize("size", [0, 1, blobs.PIECE_BYTES, blobs.PIECE_BYTES + 1, 3 * blobs.PIECE_BYTES])
def test_what_is_laid_down_is_read_back(size):
    data = bytes(i % 251 for i in range(size))
    ref = blobs.ref_of("file", size)
    laid = blobs.sealed(SEALER, "k", "file", data)
    assert list(laid) == blobs.fields(ref)
    assert blobs.checked(ref, blobs.opened(OPENER, "k", ref, [laid[name] for name in blobs.fields(ref)])) == data


def test_a_piece_opens_only_in_its_place():
    laid = blobs.sealed(SEALER, "k", "file", bytes(2 * blobs.PIECE_BYTES))
    ref = blobs.ref_of("file", 2 * blobs.PIECE_BYTES)
    swapped = [laid["file/1"], laid["file/0"]]
    for key, name, pieces in [
        ("other", "file", list(laid.values())),
        ("k", "body", list(laid.values())),
        ("k", "file", swapped),
    ]:
        with pytest.raises(SealError):
            blobs.opened(OPENER, key, ref.model_copy(update={"name": name}), pieces)


def test_a_missing_piece_is_an_error_with_its_code():
    with pytest.raises(WorkerError) as caught:
        blobs.opened(OPENER, "k", blobs.ref_of("file", 1), [None])
    assert caught.value.code == "blob_lost"


def test_a_part_that_is_cut_short_is_not_taken_for_whole():
    with pytest.raises(SealError):
        blobs.checked(blobs.ref_of("file", 2), b"x")


def test_nothing_of_the_data_is_readable_in_the_pieces():
    assert all(b"secret" not in piece for piece in blobs.sealed(SEALER, "k", "file", b"secret" * 100).values())
