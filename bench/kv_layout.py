"""Decode speed by KV layout and flash attention: `python -m bench.kv_layout` (docs/decisions/0004).

Calls llama.cpp directly: no scheduler, no text, greedy sampling. Each line is one fresh context.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

ROOT = Path(__file__).resolve().parent.parent
CTX = 1024


def _context(model: Any, *, unified: bool, flash: bool, sequences: int, threads: int) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = CTX * sequences
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = sequences
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = unified
    params.flash_attn_type = int(flash)
    return lib.llama_init_from_model(model, params)


def _fill(batch: Any, rows: list[tuple[int, int, int]], *, all_logits: bool) -> None:
    for i, (token, pos, seq) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, pos, 1
        batch.seq_id[i][0] = seq
        batch.logits[i] = int(all_logits or i == len(rows) - 1)
    batch.n_tokens = len(rows)


def decode_speed(
    model: Any, *, unified: bool, flash: bool, sequences: int, held: int, threads: int, steps: int
) -> float:
    """Tokens a second of all sequences together, each with `held` tokens in its context."""
    ctx = _context(model, unified=unified, flash=flash, sequences=sequences, threads=threads)
    batch = lib.llama_batch_init(512, 0, 1)
    greedy = lib.llama_sampler_init_greedy()
    for seq in range(sequences):
        _fill(batch, [((i * 37 + seq * 11) % 40_000 + 100, i, seq) for i in range(held)], all_logits=False)
        lib.llama_decode(ctx, batch)
    tokens = [100] * sequences
    started = time.perf_counter()
    for step in range(steps):
        _fill(batch, [(tokens[seq], held + step, seq) for seq in range(sequences)], all_logits=True)
        lib.llama_decode(ctx, batch)
        tokens = [lib.llama_sampler_sample(greedy, ctx, seq) for seq in range(sequences)]
    seconds = time.perf_counter() - started
    lib.llama_sampler_free(greedy)
    lib.llama_batch_free(batch)
    lib.llama_free(ctx)
    return sequences * steps / seconds


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
        for flash in (False, True):
            speeds = [
                decode_speed(
                    model,
                    unified=u,
                    flash=flash,
                    sequences=sequences,
                    held=held,
                    threads=args.threads,
                    steps=args.steps,
                )
                for u in (True, False)
            ]
            row = f"unified {speeds[0]:6.1f}  per slot {speeds[1]:6.1f} tok/s"
            print(f"{sequences:2} × {held:3} flash={flash!s:5} {row}")


if __name__ == "__main__":
    main()
