"""LoRA adapters: applied to every context of their model, and refused in words when they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import WorkerError
from tests.fakes.tiny_lora import write_tiny_lora
from tests.worker.engine.conftest import StartEngine
from worker.engine.adapters import Adapter
from worker.engine.model import LoadedModel

PROMPT = "The cat in the house"


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write_tiny_lora(tmp_path / "lora.gguf")


@pytest.fixture
def said(tiny_path: Path, start_engine: StartEngine) -> Callable[..., str]:
    """What the tiny model says with these adapters."""

    def say(*adapters: Adapter) -> str:
        with LoadedModel(tiny_path, n_gpu_layers=0, lora=adapters) as model:
            harness = start_engine(model, slots=1)
            text = harness.run(PROMPT).text
            harness.close()
            return text

    return say


def test_an_adapter_changes_what_is_said(said: Callable[..., str], lora: Path) -> None:
    plain, adapted = said(), said(Adapter(lora))
    assert plain != adapted
    assert said(Adapter(lora)) == adapted


def test_the_scale_counts(said: Callable[..., str], lora: Path) -> None:
    texts = {said(Adapter(lora, scale)) for scale in (-1.0, 0.3, 1.0)}
    assert len(texts) == 3
    assert said(Adapter(lora, 0.0)) == said()


def test_adapters_add_up(said: Callable[..., str], lora: Path) -> None:
    """Twice at half strength is once at full strength, up to rounding: the first words are the same."""
    assert said(Adapter(lora, 0.5), Adapter(lora, 0.5))[:4] == said(Adapter(lora))[:4]


@pytest.mark.parametrize("bad", ["another width", "another architecture", "no adapter", "nothing there"])
def test_what_does_not_fit_is_refused_in_words(tmp_path: Path, tiny_path: Path, bad: str) -> None:
    path = tmp_path / "bad.gguf"
    if bad == "another width":
        write_tiny_lora(path, width=32)
    elif bad == "another architecture":
        write_tiny_lora(path, arch="qwen2")
    elif bad == "no adapter":
        path.write_bytes(tiny_path.read_bytes())
    with pytest.raises(WorkerError, match=r"the adapter bad\.gguf cannot be loaded.*made for this model") as caught:
        LoadedModel(tiny_path, n_gpu_layers=0, lora=(Adapter(path),))
    assert caught.value.code == "bad_adapter"


def test_the_fake_is_reproducible(tmp_path: Path) -> None:
    one, two = (np.fromfile(write_tiny_lora(tmp_path / name), np.uint8) for name in ("a", "b"))
    assert (one == two).all()
