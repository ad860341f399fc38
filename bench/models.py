"""A model of realistic size to measure with: `python -m bench.models 1b`, then `python -m bench.stack --model FILE`.

A llama with random weights (bench/random_llama.py): as fast as a real one of its shape, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import fields, replace
from pathlib import Path

import gguf

from bench.random_llama import FILE_TYPES, Shape, Tokenizer, fitting, size_of, write_model
from bench.servers import SMOLLM

PRESETS = {
    "0.3b": Shape(layers=16, embd=1024, ff=4096, heads=16, kv_heads=4),
    "1b": Shape(layers=16, embd=2048, ff=8192, heads=32, kv_heads=8),  # Llama 3.2 1B, with the tokenizer's vocabulary
    "8b": Shape(layers=32, embd=4096, ff=14336, heads=32, kv_heads=8, vocab=128_256),  # Llama 3 8B
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--quant", choices=[quant.name.lower() for quant in FILE_TYPES], default="q4_0")
    parser.add_argument("--out", type=Path, help="the file to write; default: .cache/models/random-PRESET-QUANT.gguf")
    parser.add_argument("--tokenizer", type=Path, default=SMOLLM, help="the GGUF to take it from")
    parser.add_argument("--seed", type=int, default=0)
    for field in fields(Shape):
        kind = type(getattr(PRESETS["1b"], field.name))
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help="instead of the preset's")
    args = parser.parse_args(argv)
    try:
        _make(args)
    except (OSError, ValueError) as exc:
        raise SystemExit(f"bench.models: {exc}") from exc


def _make(args: argparse.Namespace) -> None:
    """Raises OSError and ValueError in words for people."""
    given = {field.name: getattr(args, field.name) for field in fields(Shape)}
    shape = replace(PRESETS[args.preset], **{name: value for name, value in given.items() if value is not None})
    path = args.out or SMOLLM.parent / f"random-{args.preset}-{args.quant}.gguf"
    if path.exists():
        raise ValueError(f"{path} is there already; remove it, or choose another --out")
    tokenizer, quant = Tokenizer(args.tokenizer), gguf.GGMLQuantizationType[args.quant.upper()]
    need, free = size_of(shape, quant, tokenizer), shutil.disk_usage(path.parent).free
    if need > free:
        raise ValueError(f"the model takes {need / 2**30:.1f} GiB, and {path.parent} has {free / 2**30:.1f} GiB free")
    write_model(path, shape, quant, tokenizer, args.seed)
    print(f"{path}: {_words(fitting(shape, tokenizer))}, {path.stat().st_size / 2**20:.0f} MiB")


def _words(shape: Shape) -> str:
    return f"{shape.parameters / 1e9:.2f} billion parameters, {shape.layers} layers of {shape.embd}"


if __name__ == "__main__":
    main()
