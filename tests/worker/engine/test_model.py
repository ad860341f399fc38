from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import JobCancelledError, WorkerError
from tests.fakes import tiny_llama
from tests.fakes.tiny_llama import write_tiny_llama
from worker.engine.config import KvType
from worker.engine.model import LoadedModel


def load(path: Path, **options: object) -> LoadedModel:
    return LoadedModel(path, n_gpu_layers=0, **options)


def test_what_a_model_says_about_itself(tiny: LoadedModel) -> None:
    assert tiny.n_ctx_train == 2048
    assert tiny.metadata["general.architecture"] == "llama"
    assert tiny.chat_template == tiny_llama.CHAT_TEMPLATE
    assert (tiny.bos_text, tiny.eos_text) == ("<s>", "</s>")
    assert tiny.eog == {tiny_llama.EOS, tiny_llama.IM_END}
    assert 0 < tiny.size_bytes < 1_000_000
    assert tiny.can_rewind


def test_kv_bytes_per_token(tiny: LoadedModel) -> None:
    layers, kv_heads, head_dim = 2, 2, 16
    assert tiny.kv_bytes_per_token(KvType.F16) == layers * kv_heads * head_dim * 2 * 2
    assert tiny.kv_bytes_per_token(KvType.F32) == 2 * tiny.kv_bytes_per_token()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text_comes_back_from_its_tokens(tiny: LoadedModel, text: str) -> None:
    tokens = tiny.tokenize(text, add_special=False)
    # SPM writes a space as "▁" and cannot tell the two apart
    assert b"".join(tiny.piece(t) for t in tokens) == text.replace("▁", " ").encode("utf-8", "replace")


def test_special_tokens_are_read_only_when_asked(tiny: LoadedModel) -> None:
    assert tiny.tokenize("<|im_end|>", parse_special=True) == [tiny_llama.BOS, tiny_llama.IM_END]
    assert tiny_llama.IM_END not in tiny.tokenize("<|im_end|>")
    assert tiny.tokenize("", add_special=False) == []


def test_control_tokens_have_no_bytes(tiny: LoadedModel) -> None:
    assert tiny.piece(tiny_llama.IM_END) == b""
    assert tiny.piece(tiny_llama.FIRST_BYTE + 0xE2) == b"\xe2"


def test_progress_rises_to_one(tiny_path: Path) -> None:
    seen: list[float] = []
    load(tiny_path, progress=seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_loading_can_be_stopped(tiny_path: Path) -> None:
    with pytest.raises(JobCancelledError, match="was stopped"):
        load(tiny_path, progress=lambda _: False)


def test_close_is_idempotent_and_using_a_closed_model_is_an_error(tiny_path: Path) -> None:
    model = load(tiny_path, mmap=False)
    model.close()
    model.close()
    with pytest.raises(WorkerError, match="unloaded"):
        model.tokenize("x")


def test_a_truncated_file_is_corrupt(tiny_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_path.read_bytes()[:-100_000])
    with pytest.raises(WorkerError, match=r"cut\.gguf") as caught:
        load(cut)
    assert caught.value.code == "model_corrupt"


def test_a_damaged_header_is_corrupt(tiny_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_path.read_bytes()[:2000])
    with pytest.raises(WorkerError) as caught:
        load(cut)
    assert caught.value.code == "model_corrupt"


def test_an_unknown_architecture_is_named_as_such(tiny_path: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(tiny_path.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qlama"))
    with pytest.raises(WorkerError) as caught:
        load(strange)
    assert caught.value.code == "unsupported_architecture"


def test_the_same_arguments_write_the_same_model(tmp_path: Path) -> None:
    one, two, other = (write_tiny_llama(tmp_path / f"{i}.gguf", seed=i // 2) for i in range(3))
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_a_model_without_a_template_has_none(tmp_path: Path) -> None:
    with load(write_tiny_llama(tmp_path / "plain.gguf", chat_template=None)) as model:
        assert model.chat_template is None
