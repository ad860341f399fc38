"""Where a model's LoRA adapters are: files of the store, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import WorkerError
from tasks.model_options import LoraRef
from worker.engine.config import Adapter


def located(store: Path, refs: Iterable[LoraRef]) -> tuple[Adapter, ...]:
    """The adapters' files. Blocking I/O. Raises WorkerError(`bad_adapter`) for one outside the store or not there."""
    return tuple(Adapter(_inside(store, ref.path), ref.scale) for ref in refs)


def _inside(store: Path, name: str) -> Path:
    path = store / name
    if not path.resolve().is_relative_to(store.resolve()):
        raise WorkerError(
            f"the adapter {name} lies outside the model store; copy it into the store and name its path from there",
            code="bad_adapter",
        )
    if not path.is_file():
        raise WorkerError(f"the adapter {name} is not in the model store; copy it there", code="bad_adapter")
    return path
