from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import WorkerError
from worker.engine.load_errors import check_file, load_error


def code_of(path: Path) -> str:
    with pytest.raises(WorkerError) as caught:
        check_file(path)
    return caught.value.code


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert code_of(tmp_path / "gone.gguf") == "model_load_failed"


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    assert code_of(tmp_path / "page.gguf") == "model_corrupt"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first = tmp_path / "big-00001-of-00003.gguf"
    for name in ("big-00001-of-00003.gguf", "big-00003-of-00003.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(WorkerError, match=r"1 are missing, the first is big-00002-of-00003\.gguf") as caught:
        check_file(first)
    assert caught.value.code == "missing_split"


def test_a_later_part_is_not_the_model(tmp_path: Path) -> None:
    (tmp_path / "big-00002-of-00003.gguf").write_bytes(b"GGUF")
    assert code_of(tmp_path / "big-00002-of-00003.gguf") == "missing_split"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("error loading model: unknown model architecture: 'llama9'", "unsupported_architecture"),
        ("error loading model vocabulary: unknown pre-tokenizer type: 'new'", "unsupported_architecture"),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory", "out_of_memory"),
        ("error loading model: unable to allocate CUDA0 buffer", "out_of_memory"),
        ("error loading model: tensor 'a' data is not within the file bounds, model is corrupted", "model_corrupt"),
        ("error loading model: missing tensor 'output.weight'", "model_corrupt"),
        ("error loading model: failed to load GGUF split from x", "missing_split"),
        (
            "llama_init_from_model: K cache type q8_0 with block size 32 does not divide n_embd_head_k=16",
            "model_load_failed",
        ),
        ("error loading model: something new", "model_load_failed"),
    ],
)
def test_causes(said: str, code: str) -> None:
    assert load_error(Path("m.gguf"), [said, "failed to load model"]).code == code


def test_nothing_said() -> None:
    assert load_error(Path("m.gguf"), []).code == "model_load_failed"
