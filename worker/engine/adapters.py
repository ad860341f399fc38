"""LoRA adapters: loaded once with their model, applied to each of its contexts, freed with it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_cpp import llama_cpp as lib

from tasks.errors import WorkerError
from worker.engine import log
from worker.engine.config import Adapter as Adapter  # noqa: PLC0414  # ours, too

if TYPE_CHECKING:
    from worker.engine.model import LoadedModel

_FIX = "name an adapter made for this model, or take it out of `lora`"


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    handle: Any
    scale: float


def load(model: Any, adapters: Sequence[Adapter]) -> tuple[LoadedAdapter, ...]:
    """Read the adapters for a llama_model, which frees them with itself. Blocks.

    Raises WorkerError(`bad_adapter`) for one that is no adapter or is one of another model.
    """
    return tuple(LoadedAdapter(_load(model, one.path), one.scale) for one in adapters)


def applied(ctx: Any, model: LoadedModel) -> Any:
    """The context with its model's adapters. Raises WorkerError(`bad_adapter`); the context is freed then."""
    ours = model.adapters
    if not ours:
        return ctx
    handles = (lib.llama_adapter_lora_p_ctypes * len(ours))(
        *(ctypes.cast(one.handle, lib.llama_adapter_lora_p_ctypes) for one in ours)
    )
    scales = (ctypes.c_float * len(ours))(*(one.scale for one in ours))
    if lib.llama_set_adapters_lora(ctx, handles, len(ours), scales) != 0:
        lib.llama_free(ctx)
        raise WorkerError(f"the adapters of {model.path.name} cannot be applied; {_FIX}", code="bad_adapter")
    return ctx


def _load(model: Any, path: Path) -> Any:
    with log.captured() as complaints:
        handle = lib.llama_adapter_lora_init(model, str(path).encode())
    if not handle:
        said = f" (llama.cpp: {complaints[-1]})" if complaints else ""
        raise WorkerError(f"the adapter {path.name} cannot be loaded{said}; {_FIX}", code="bad_adapter")
    return handle
