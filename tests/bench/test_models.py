"""Random models to measure with: they load, their numbers are sane, and all they say is words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from bench.models import PRESETS, main
from bench.random_llama import Q4_0, Q8_0, Shape, Tokenizer, size_of, write_model
from bench.servers import id_in_store
from tests.fakes import tiny_llama
from tests.fakes.tiny_llama import write_tiny_llama
from tests.worker.engine.harness import Harness
from worker.engine.config import EngineConfig
from worker.engine.model import LoadedModel

TINY = Shape(layers=2, embd=64, ff=128, heads=4, kv_heads=2, vocab=480, ctx=512)


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("donor") / "donor.gguf")


def test_presets_have_the_size_they_are_named_for():
    assert 0.3e9 < replace(PRESETS["0.3b"], vocab=49_152).parameters < 0.4e9
    assert 1.0e9 < replace(PRESETS["1b"], vocab=49_152).parameters < 1.3e9
    assert PRESETS["8b"].parameters == 8_030_261_248  # Llama 3 8B


@pytest.mark.parametrize("quant", [Q4_0, Q8_0])
def test_the_file_is_as_asked(tmp_path: Path, donor: Path, quant: gguf.GGMLQuantizationType):
    path = write_model(tmp_path / "a.gguf", TINY, quant, Tokenizer(donor), seed=1)
    assert list(tmp_path.iterdir()) == [path]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert sum(int(t.n_elements) for t in tensors.values()) == TINY.parameters
    assert sum(int(t.n_bytes) for t in tensors.values()) == size_of(TINY, quant, Tokenizer(donor))
    for name, spread in {"token_embd": 1.0, "blk.1.attn_v": 64**-0.5, "blk.0.ffn_down": 128**-0.5}.items():
        tensor = tensors[f"{name}.weight"]
        assert tensor.tensor_type is quant
        assert np.std(gguf.dequantize(tensor.data, quant)) == pytest.approx(spread, rel=0.1)
    assert (tensors["blk.0.ffn_norm.weight"].data == 1).all()


def test_same_arguments_same_bytes(tmp_path: Path, donor: Path):
    made = []
    for seed in (1, 1, 2):
        path = write_model(tmp_path / "a.gguf", TINY, Q4_0, Tokenizer(donor), seed=seed)
        made.append(path.read_bytes())
    assert made[0] == made[1] != made[2]


def test_it_runs_and_says_words(tmp_path: Path, donor: Path):
    path = write_model(tmp_path / "a.gguf", TINY, Q4_0, Tokenizer(donor), seed=1)
    with LoadedModel(path, n_gpu_layers=0) as model:
        assert (model.chat_template, model.eos_text) == (tiny_llama.CHAT_TEMPLATE, "</s>")
        harness = Harness(model, EngineConfig(slots=2, ctx_per_seq=256))
        reply = harness.run("ab", logprobs=5)
        harness.close()
    assert len(reply.tokens) == 24
    assert reply.text.replace(" ", "").isalpha()
    assert id_in_store(path) == "a"


def test_the_command_writes_what_it_says(tmp_path: Path, donor: Path, capsys: pytest.CaptureFixture[str]):
    shape = ["--layers", "1", "--embd", "64", "--ff", "64", "--heads", "2", "--kv-heads", "1"]
    argv = ["1b", "--out", str(tmp_path / "m.gguf"), "--tokenizer", str(donor), *shape]
    main(argv)
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'm.gguf'}: 0.00 billion parameters, 1 layers of 64")
    with pytest.raises(SystemExit, match="there already"):
        main(argv)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--embd", "100"], "multiples of 32"),
        (["--heads", "3"], "multiple of twice heads"),
        (["--layers", "0"], "1 or more"),
        (["--vocab", "7"], "which the tokenizer has"),
        (["--ff", "32000000000"], "GiB free"),
        (["--tokenizer", "/nowhere.gguf"], "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, donor: Path, more: list[str], said: str):
    argv = ["1b", "--out", str(tmp_path / "m.gguf"), "--tokenizer", str(donor), *more]
    with pytest.raises(SystemExit, match=said):
        main(argv)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_model_cannot_be_served(tmp_path: Path):
    (tmp_path / "bad.gguf").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="bad"):
        id_in_store(tmp_path / "bad.gguf")
    with pytest.raises(SystemExit, match="name a GGUF"):
        id_in_store(tmp_path / "other.gguf")
