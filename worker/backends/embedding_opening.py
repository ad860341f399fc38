"""Opens a GGUF of the store as an embedding backend: weights, a pooling context and its engine, sized by a plan."""

from __future__ import annotations

from collections.abc import Callable

from worker.backends.embedding import EmbeddingBackend
from worker.backends.opening import usable_cpus
from worker.capacity import Plan
from worker.engine.config import LANES_CPU
from worker.engine.embedder import Embedder
from worker.engine.embedder_api import EmbedConfig
from worker.engine.model import LoadedModel
from worker.engine.pooling_pairs import PairTokens
from worker.options import Options
from worker.store.catalogue import Entry

_WEIGHTS = 0.9  # of the time, roughly; the rest makes the context and tries it
_PACK_CPU = 128  # tokens; longer batches are slower, see `EmbedConfig` and docs/performance.md
_DEFAULTS = EmbedConfig()

Progress = Callable[[float], bool]


def open_embedding(entry: Entry, plan: Plan, options: Options, progress: Progress) -> EmbeddingBackend:
    """Load and start. Blocks for seconds; `progress` gets 0–1, and stops it by returning False.

    Raises WorkerError (model_corrupt, out_of_memory, …), or JobCancelledError when it was stopped.
    """
    model = LoadedModel(
        entry.path,
        n_gpu_layers=options.n_gpu_layers,
        tensor_split=options.tensor_split,
        main_gpu=options.main_gpu,
        lora=options.adapters,
        progress=lambda fraction: progress(fraction * _WEIGHTS),
    )
    backend = EmbeddingBackend(model, PairTokens(model), Embedder(model, embed_config(plan, options)))
    progress(1.0)
    return backend


def embed_config(plan: Plan, options: Options) -> EmbedConfig:
    """The plan and the options as the engine takes them."""
    return EmbedConfig(
        ctx_per_input=plan.ctx_per_slot,
        pack_tokens=options.n_batch or (_PACK_CPU if options.cpu else _DEFAULTS.pack_tokens),
        slots=plan.slots,
        threads=options.threads or usable_cpus(),
        lanes=LANES_CPU if options.cpu else 1,
        on_cpu=options.cpu,
    )
