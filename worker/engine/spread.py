"""How a model's layers are spread over GPUs."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as lib

from tasks.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Spread:
    """`n_gpu_layers` -1 = all. `tensor_split`: each visible GPU's part; `main_gpu`: the one that takes everything.

    Without either llama.cpp spreads layers over all visible GPUs by their free memory.
    """

    n_gpu_layers: int = -1
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None

    def fill(self, params: Any) -> Any:
        """Write it into llama_model_params; what is returned must live while llama.cpp loads.

        Raises ConfigError for more parts than llama.cpp knows devices.
        """
        params.n_gpu_layers = self.n_gpu_layers
        if self.main_gpu is not None:
            params.split_mode = lib.LLAMA_SPLIT_MODE_NONE
            params.main_gpu = self.main_gpu
        if not self.tensor_split:
            return None
        most = lib.llama_max_devices()
        if len(self.tensor_split) > most:
            raise ConfigError(f"tensor_split has {len(self.tensor_split)} parts; allowed: {most} at most")
        parts = (ctypes.c_float * most)(*self.tensor_split)
        params.tensor_split = ctypes.cast(parts, ctypes.POINTER(ctypes.c_float))
        return parts
