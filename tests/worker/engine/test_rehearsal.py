"""A rehearsal finds what a load would find, and takes nothing."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tasks.errors import WorkerError
from tests.fakes.tiny_llama import write_tiny_llama
from tests.fakes.tiny_mamba import write_tiny_mamba
from worker.engine.rehearsal import rehearse


def test_good_models_pass(tiny_path: Path, tmp_path: Path) -> None:
    rehearse(tiny_path)
    rehearse(write_tiny_llama(tmp_path / "parted.gguf", split=8))
    rehearse(write_tiny_mamba(tmp_path / "recurrent.gguf"))


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        (b"blk.1.ffn_up", b"blk.1.ffn_uq", "model_corrupt"),
        (b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qlama", "unsupported_architecture"),
        (b"GGUF", b"JUNK", "model_corrupt"),
    ],
)
def test_what_would_not_load(tiny_path: Path, tmp_path: Path, before: bytes, after: bytes, code: str) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(tiny_path.read_bytes().replace(before, after))
    with pytest.raises(WorkerError) as caught:
        rehearse(bad)
    assert caught.value.code == code


def test_a_missing_part(tmp_path: Path) -> None:
    first = write_tiny_llama(tmp_path / "parted.gguf", split=8)
    (tmp_path / "parted-00003-of-00003.gguf").unlink()
    with pytest.raises(WorkerError) as caught:
        rehearse(first)
    assert caught.value.code == "missing_split"


def test_no_weights_are_read(smollm2: Path) -> None:
    rehearse(smollm2)
    before = psutil.Process().memory_info().rss
    rehearse(smollm2)
    assert psutil.Process().memory_info().rss - before < smollm2.stat().st_size / 2
