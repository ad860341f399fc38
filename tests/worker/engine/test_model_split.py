"""Models that come in several files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import WorkerError
from tests.fakes.tiny_llama import write_tiny_llama
from tests.worker.engine.conftest import StartEngine
from worker.engine.model import LoadedModel
from worker.store.catalogue import Catalogue

PER_PART = 8


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "parted.gguf", split=PER_PART)


def part(first: Path, number: int) -> Path:
    return first.with_name(first.name.replace("00001", f"{number:05d}"))


def test_it_says_what_the_whole_one_says(first: Path, tiny: LoadedModel, start_engine: StartEngine) -> None:
    assert first.name == "parted-00001-of-00003.gguf"
    with LoadedModel(first, n_gpu_layers=0) as model:
        assert model.size_bytes == tiny.size_bytes
        harness = start_engine(model)
        assert harness.run("The cat").text == start_engine().run("The cat").text
        harness.close()


def test_the_store_lists_it_once_and_whole(first: Path) -> None:
    (entry,) = Catalogue(first.parent).entries()
    assert (entry.id, entry.path, entry.problem) == ("parted", first, None)
    assert entry.size_bytes == sum(part(first, number).stat().st_size for number in (1, 2, 3))


def test_a_missing_part(first: Path) -> None:
    part(first, 2).unlink()
    with pytest.raises(WorkerError, match=r"1 are missing, the first is parted-00002-of-00003.*install") as caught:
        LoadedModel(first, n_gpu_layers=0)
    assert caught.value.code == "missing_split"
    (entry,) = Catalogue(first.parent).entries()
    assert entry.problem is not None
    assert entry.problem.code == "missing_split"


def test_a_part_that_is_cut_short(first: Path) -> None:
    part(first, 3).write_bytes(part(first, 3).read_bytes()[:-1000])
    with pytest.raises(WorkerError, match="install the model again") as caught:
        LoadedModel(first, n_gpu_layers=0)
    assert caught.value.code == "model_corrupt"


def test_a_part_that_is_another_part(first: Path) -> None:
    part(first, 2).write_bytes(part(first, 3).read_bytes())
    with pytest.raises(WorkerError, match="install the model again") as caught:
        LoadedModel(first, n_gpu_layers=0)
    assert caught.value.code in {"missing_split", "model_corrupt"}
