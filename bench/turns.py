"""How much sooner the second turn of a long conversation begins: `python -m bench.turns`.

A first turn of about 2,000 prompt tokens, a short reply, then the same conversation with one more question, through
the whole stack. What counts is the second turn's time to first token as a part of the first one's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from statistics import median
from typing import Any

from bench.client import Target, stream_one
from bench.prompts import TOPICS
from bench.servers import SMOLLM, Size, llama_server, stack


def turns(target: Target, number: int, words: int) -> tuple[float, float, int]:
    """Seconds to the first text of both turns; the second turn's prompt tokens that were in the cache."""
    text = " ".join(f"{TOPICS[(n * 7 + number) % len(TOPICS)]} {number + n}" for n in range(words // 2))
    messages = [{"role": "user", "content": f"{number}. Remember these words: {text}"}]
    first, reply = stream_one(target, _body(target, messages))
    messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": "Which was the first?"}]
    second, _ = stream_one(target, _body(target, messages))
    return first.ttft, second.ttft, second.tokens


def _body(target: Target, messages: list[dict[str, str]]) -> dict[str, Any]:
    return {"model": target.model, "messages": messages, "max_tokens": 16, "temperature": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words", type=int, default=900, help="about two tokens each")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llama-server", metavar="BINARY")
    args = parser.parse_args()
    size = Size(4, 4096, args.threads)
    with contextlib.ExitStack() as parts:
        targets = {"stack": parts.enter_context(stack(SMOLLM, size))}
        if args.llama_server:
            targets["llama-server"] = parts.enter_context(llama_server(args.llama_server, SMOLLM, size))
        seen = {name: [turns(target, n, args.words) for n in range(args.rounds)] for name, target in targets.items()}
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {args.threads} threads, {args.rounds} rounds")
    print("| | first turn, ms | second turn, ms | second ÷ first |\n|---|---|---|---|")
    for name, rows in seen.items():
        first, second = median(r[0] for r in rows), median(r[1] for r in rows)
        print(f"| {name} | {1000 * first:.0f} | {1000 * second:.0f} | {median(r[1] / r[0] for r in rows):.3f} |")


if __name__ == "__main__":
    main()
