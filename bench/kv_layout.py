"""Decode speed by KV layout, flash attention and where the sequences lie: `python -m bench.kv_layout`.

For docs/decisions/0004. Calls llama.cpp directly: no scheduler, no text, greedy sampling. Each figure is one fresh
context. "Shuffled" has the batch's sequences in a random order, "scattered" in every second slot, upwards.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

ROOT = Path(__file__).resolve().parent.parent
CTX = 1024


@dataclass(frozen=True)
class Layout:
    """`slots`: the sequence ids in the order of the batch."""

    slots: tuple[int, ...]
    threads: int
    unified: bool = False
    flash: bool = True

    @property
    def shuffled(self) -> Layout:
        return replace(self, slots=tuple(random.Random(7).sample(self.slots, len(self.slots))))

    @property
    def scattered(self) -> Layout:
        return replace(self, slots=tuple(2 * slot for slot in self.slots))


def _context(model: Any, layout: Layout) -> Any:
    params = lib.llama_context_default_params()
    params.n_seq_max = max(layout.slots) + 1
    params.n_ctx = CTX * params.n_seq_max
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = layout.threads
    params.kv_unified = layout.unified
    params.flash_attn_type = int(layout.flash)
    return lib.llama_init_from_model(model, params)


def _fill(batch: Any, rows: list[tuple[int, int, int]], *, all_logits: bool) -> None:
    for i, (token, pos, seq) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, pos, 1
        batch.seq_id[i][0] = seq
        batch.logits[i] = int(all_logits or i == len(rows) - 1)
    batch.n_tokens = len(rows)


def decode_speed(model: Any, layout: Layout, *, held: int, steps: int) -> float:
    """Tokens a second of all sequences together, each with `held` tokens in its context."""
    ctx = _context(model, layout)
    batch = lib.llama_batch_init(512, 0, 1)
    greedy = lib.llama_sampler_init_greedy()
    for seq in layout.slots:
        _fill(batch, [((i * 37 + seq * 11) % 40_000 + 100, i, seq) for i in range(held)], all_logits=False)
        lib.llama_decode(ctx, batch)
    tokens = [100] * len(layout.slots)
    started = time.perf_counter()
    for step in range(steps):
        rows = [(token, held + step, seq) for token, seq in zip(tokens, layout.slots, strict=True)]
        _fill(batch, rows, all_logits=True)
        lib.llama_decode(ctx, batch)
        tokens = [lib.llama_sampler_sample(greedy, ctx, at) for at in range(len(tokens))]
    seconds = time.perf_counter() - started
    lib.llama_sampler_free(greedy)
    lib.llama_batch_free(batch)
    lib.llama_free(ctx)
    return len(layout.slots) * steps / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    quiet = lib.llama_log_callback(lambda *_: None)  # kept alive: llama.cpp calls it for as long as it runs
    lib.llama_log_set(quiet, None)
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(args.model).encode(), lib.llama_model_default_params())
    for sequences, held in ((4, 35), (4, 400), (16, 35), (16, 400)):
        own = Layout(tuple(range(sequences)), args.threads)
        layouts = {
            "unified, no flash": replace(own, unified=True, flash=False),
            "unified": replace(own, unified=True),
            "per slot, no flash": replace(own, flash=False),
            "per slot": own,
            "shuffled": own.shuffled,
            "scattered": own.scattered,
        }
        speeds = {name: decode_speed(model, one, held=held, steps=args.steps) for name, one in layouts.items()}
        print(f"{sequences:2} × {held:3} tok/s:", ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()))


if __name__ == "__main__":
    main()
