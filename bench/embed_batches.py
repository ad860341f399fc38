"""How an encoder's batches should be cut: `python -m bench.embed_batches`. For docs/decisions/0008.

First the time of one batch of N tokens in one thread, as it is and filled up to a tile. Then texts a second of the
embedding engine alone, by lanes and by tokens a batch, with clients that each have one request of several texts under
way; the settings take turns within each round. all-MiniLM-L6-v2 in F16, or `--model` another encoder.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path
from statistics import median

from bench.embeddings import texts
from tests.fakes.minilm import minilm_gguf
from worker.engine.embedder import Embedder
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest
from worker.engine.model import LoadedModel
from worker.engine.pooling import PoolingContext

SIZES = (16, 31, 48, 62, 64, 96, 128, 256)
PACKS = (64, 128, 256, 512)
CTX = 512

Inputs = tuple[tuple[int, ...], ...]


def batch_ms(context: PoolingContext, tokens: int, repeats: int = 12) -> float:
    """Median milliseconds of one input of so many tokens."""
    one = [list(range(1000, 1000 + tokens))]
    took: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        context.run(one)
        took.append(time.perf_counter() - began)
    return 1000 * median(took)


def print_sizes(model: LoadedModel) -> None:
    plain, filling = (PoolingContext(model, EmbedConfig(ctx_per_input=CTX, on_cpu=cpu)) for cpu in (False, True))
    print("| tokens | as it is, ms | filled up, ms |\n|---|---|---|")
    for tokens in SIZES:
        print(f"| {tokens} | {batch_ms(plain, tokens):.1f} | {batch_ms(filling, tokens):.1f} |")
    plain.close()
    filling.close()


def speed(model: LoadedModel, config: EmbedConfig, inputs: Inputs, clients: int, requests: int) -> float:
    """Texts a second."""
    engine = Embedder(model, config)
    engine.start()

    def client(name: int) -> None:
        for number in range(requests):
            ended = threading.Event()

            def listener(output: EmbedOutput, ended: threading.Event = ended) -> None:
                if output.last:
                    ended.set()

            engine.submit(EmbedRequest(f"{name}-{number}", inputs), listener)
            ended.wait()

    threads = [threading.Thread(target=client, args=(name,)) for name in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    engine.close()
    return clients * requests * len(inputs) / took


def print_lanes(model: LoadedModel, args: argparse.Namespace) -> None:
    inputs = tuple(tuple(model.tokenize(text)) for text in texts(args.per, 0))
    seen: dict[tuple[int, int], list[float]] = {}
    for _ in range(args.rounds):
        for lanes in args.lanes:
            for pack in PACKS:
                config = EmbedConfig(ctx_per_input=CTX, threads=args.threads, lanes=lanes, pack_tokens=pack)
                seen.setdefault((lanes, pack), []).append(speed(model, config, inputs, args.clients, 3))
    print("| lanes | " + " | ".join(f"{pack} tokens a batch" for pack in PACKS) + " |")
    print("|---" * (1 + len(PACKS)) + "|")
    for lanes in args.lanes:
        print(f"| {lanes} | " + " | ".join(f"{median(seen[lanes, pack]):.0f}" for pack in PACKS) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--per", type=int, default=16, help="texts a request")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with LoadedModel(args.model or minilm_gguf(), n_gpu_layers=0) as model:
        print(
            f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {args.threads} threads, {args.clients} clients\n"
        )
        print_sizes(model)
        print(f"\nTexts a second, {args.per} a request:\n")
        print_lanes(model, args)


if __name__ == "__main__":
    main()
