"""Whether a model would load, found out without its weights: before others are evicted for it in vain."""

from __future__ import annotations

from pathlib import Path

from llama_cpp import llama_cpp as lib

from worker.engine import log
from worker.engine.load_errors import check_file, load_error
from worker.engine.model import init_backend


def rehearse(path: Path) -> None:
    """Have llama.cpp read everything of the model but its weights (all parts, tensors, vocabulary).

    Blocks for some 100 ms and takes no memory for weights. Raises WorkerError: model_corrupt,
    unsupported_architecture, missing_split or model_load_failed.
    """
    check_file(path)
    init_backend()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    params.no_alloc = True
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    with log.captured() as complaints:
        model = lib.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise load_error(path, complaints)
    lib.llama_model_free(model)
