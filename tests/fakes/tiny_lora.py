"""A LoRA adapter for the tiny llama, written with `gguf`: strong enough that it changes what the model says."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

EMBD = 64
RANK = 4


def write_tiny_lora(path: Path, *, seed: int = 1, gain: float = 1.0, width: int = EMBD, arch: str = "llama") -> Path:
    """Write the adapter to `path` and return it. Another `width` than the model's makes it one that does not fit."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for layer in range(2):
        down = rng.standard_normal((RANK, width)).astype(np.float32) * gain
        up = rng.standard_normal((width, RANK)).astype(np.float32) * gain
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", down)
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", up)
        writer.add_tensor(f"blk.{layer}.attn_output.weight.lora_a", down[::-1].copy())
        writer.add_tensor(f"blk.{layer}.attn_output.weight.lora_b", up[::-1].copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
