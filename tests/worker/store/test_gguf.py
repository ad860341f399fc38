"""The header reader: right about good files, and never fooled by bad ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf as reference
import pytest

from tasks.errors import WorkerError
from tests.fakes.tiny_llama import CHAT_TEMPLATE, write_tiny_llama
from worker.store.gguf import GgufInfo, Pooling, read_gguf, short_count, split_of
from worker.store.gguf_reader import read_header
from worker.store.gguf_types import BLOCKS, FILE_TYPES


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", n_ctx=2048)


def header(pairs: bytes = b"", *, version: int = 3, tensors: int = 0, count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + pairs


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


ARCH = pair(b"general.architecture", 8, text(b"llama"))


def test_a_real_model(smollm2):
    info = read_gguf(smollm2)
    assert info.architecture == "llama"
    assert info.context_length == 8192
    assert info.quantisation == "Q4_1"
    assert info.parameter_size == "135M"
    assert info.has_chat_template
    assert info.pooling is None
    assert info.kv_bytes_per_token == 30 * 3 * (64 + 64) * 2


def test_the_vocabulary_is_not_kept(smollm2):
    with smollm2.open("rb") as file:
        meta = read_header(file).meta
    assert meta["tokenizer.ggml.model"] == "gpt2"
    assert "tokenizer.ggml.tokens" not in meta
    assert "tokenizer.ggml.token_type" not in meta


def test_a_small_model_agrees_with_the_gguf_package(tiny):
    info = read_gguf(tiny)
    tensors = reference.GGUFReader(tiny).tensors
    assert info.parameters == sum(int(tensor.n_elements) for tensor in tensors)
    assert (info.block_count, info.head_count, info.head_count_kv) == (2, (4,), (2,))
    assert info.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2
    assert info.quantisation == "F32"


def test_the_type_tables_are_those_of_the_gguf_package():
    sizes = {kind.value: size for kind, size in reference.GGML_QUANT_SIZES.items()}
    assert {kind: sizes[kind] for kind in BLOCKS} == BLOCKS
    names = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in reference.LlamaFileType}
    assert {kind: names[kind] for kind in FILE_TYPES} == FILE_TYPES


def test_key_and_value_lengths_and_lists_per_layer(tmp_path):
    writer = reference.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(3)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 0, 1])
    writer.add_key_length(24)
    writer.add_value_length(8)
    writer.add_pooling_type(reference.PoolingType.CLS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    info = read_gguf(tmp_path / "m.gguf")
    assert info.kv_bytes_per_token == (2 + 0 + 1) * (24 + 8) * 2
    assert info.pooling is Pooling.CLS


def test_a_long_text_is_passed_over(tmp_path):
    path = tmp_path / "m.gguf"
    long = pair(b"general.license", 8, text(b"x" * (2 << 20)))
    path.write_bytes(header(ARCH + long + pair(b"general.name", 8, text(b"after")), count=3))
    assert read_gguf(path).name == "after"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin with GGUF"),
        (b"GG", "does not begin with GGUF"),
        (b"PK\x03\x04" + bytes(64), "does not begin with GGUF"),
        (b"GGUF", "middle of its header"),
        (header(version=1), "version 1"),
        (header(version=0x03000000), "version 50331648"),
        (header(tensors=2**63), "claims 9223372036854775808 tensors"),
        (header(count=2**60), "metadata entries"),
        (header(count=1) + bytes(13), "unknown type|not name an architecture"),
        (header(), "does not name an architecture"),
        (header(text(b"k" * 70_000) + bytes(8), count=1), "70000 bytes long"),
        (header(struct.pack("<Q", 2**62) + bytes(64), count=1), "characters in a text"),
        (header(pair(b"\xff\xfe", 4, bytes(8)), count=1), "not UTF-8"),
        (header(pair(b"k", 99, bytes(8)), count=1), "unknown type 99"),
        (header(pair(b"k", 9, struct.pack("<IQ", 9, 1) + bytes(16)), count=1), "list of lists"),
        (header(pair(b"k", 9, struct.pack("<IQ", 4, 2**61)), count=1), "values in a list"),
        (header(pair(b"k", 9, struct.pack("<IQ", 8, 3) + text(b"a")), count=1), "texts in a list"),
        (header(pair(b"general.alignment", 4, struct.pack("<I", 33)), count=1), "power of two"),
        (header(ARCH + text(b"t") + struct.pack("<I", 9) + bytes(40), count=1, tensors=1), "9 dimensions"),
    ],
)
def test_garbage_is_refused_with_a_reason(tmp_path, data, why):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(WorkerError, match=why) as caught:
        read_gguf(path)
    assert caught.value.code == "model_corrupt"
    assert "bad.gguf" in caught.value.message


def test_every_cut_of_a_file_is_refused(tiny, tmp_path):
    """A download that stopped anywhere is never taken for a model."""
    data = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    cuts = [*range(0, 4000, 97), len(data) // 2, len(data) - 4096]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(WorkerError) as caught:
            read_gguf(path)
        assert caught.value.code == "model_corrupt"


def test_flipped_bytes_never_crash(tiny, tmp_path):
    data = bytearray(tiny.read_bytes())
    path = tmp_path / "flip.gguf"
    for at in range(4, 2500, 13):
        flipped = bytearray(data)
        flipped[at] ^= 0xFF
        path.write_bytes(flipped)
        try:
            assert isinstance(read_gguf(path), GgufInfo)
        except WorkerError as exc:
            assert exc.code == "model_corrupt"  # noqa: PT017  # both outcomes are right, another exception is not


def test_a_missing_file_is_a_load_failure(tmp_path):
    with pytest.raises(WorkerError, match=r"gone\.gguf") as caught:
        read_gguf(tmp_path / "gone.gguf")
    assert caught.value.code == "model_load_failed"


@pytest.mark.parametrize(
    ("count", "said"),
    [(134_515_008, "135M"), (1_711_376_384, "1.7B"), (8_030_261_248, "8B"), (70_553_706_496, "70.6B"),
     (999_700_000, "1B"), (7_600, "8K"), (999_600, "1M"), (12, "12")],
)  # fmt: skip
def test_parameters_as_people_say_them(count, said):
    assert short_count(count) == said


def test_names_of_split_files():
    split = split_of(Path("/m/qwen-00002-of-00003.gguf"))
    assert split is not None
    assert (split.stem, split.part, split.count) == ("qwen", 2, 3)
    assert split.name(1) == "qwen-00001-of-00003.gguf"
    assert split_of(Path("/m/qwen-2-of-3.gguf")) is None


def test_the_template_is_seen(tmp_path):
    cases: list[tuple[str | None, Callable[[GgufInfo], bool]]] = [
        (CHAT_TEMPLATE, lambda info: info.has_chat_template),
        (None, lambda info: not info.has_chat_template),
    ]
    for template, right in cases:
        assert right(read_gguf(write_tiny_llama(tmp_path / "t.gguf", chat_template=template)))
