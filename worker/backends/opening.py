"""Opens a GGUF of the store as a llama backend: weights, context and engine, sized by a plan."""

from __future__ import annotations

import os
from collections.abc import Callable

from worker.backends.base import StepPublisher
from worker.backends.llama import LlamaBackend
from worker.capacity import Plan
from worker.engine.config import EngineConfig
from worker.engine.engine import Engine
from worker.engine.model import LoadedModel
from worker.options import Options
from worker.store.catalogue import Entry

_WEIGHTS = 0.9  # of the time, roughly; the rest makes the context and warms it up
_DEFAULTS = EngineConfig()

Progress = Callable[[float], bool]


def open_llama(
    entry: Entry, plan: Plan, options: Options, publisher: StepPublisher, progress: Progress
) -> LlamaBackend:
    """Load and start. Blocks for seconds to minutes; `progress` gets 0–1, and stops it by returning False.

    Raises WorkerError (model_corrupt, out_of_memory, …), or JobCancelledError when it was stopped.
    """
    config = engine_config(plan, options)
    model = LoadedModel(
        entry.path,
        n_gpu_layers=options.n_gpu_layers,
        tensor_split=options.tensor_split,
        main_gpu=options.main_gpu,
        lora=options.adapters,
        progress=lambda fraction: progress(fraction * _WEIGHTS),
    )
    backend = LlamaBackend(model, lambda on_step: Engine(model, config, on_step), publisher)
    progress(1.0)
    return backend


def engine_config(plan: Plan, options: Options) -> EngineConfig:
    """The plan and the options as the engine takes them."""
    n_batch = max(options.n_batch or _DEFAULTS.n_batch, plan.slots + 1)  # a step has a token of every slot, and more
    return EngineConfig(
        slots=plan.slots,
        ctx_per_seq=plan.ctx_per_slot,
        n_batch=n_batch,
        n_ubatch=min(_DEFAULTS.n_ubatch, n_batch),
        threads=options.threads or usable_cpus(),
        kv_type=options.kv_type,
        kv_type_v=options.kv_type_v,
        flash_attn=options.flash_attn,
    )


def usable_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
