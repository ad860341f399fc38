"""When a batch is worth filling up with tokens that nobody reads. Pure.

llama.cpp's flash attention on CPUs works in tiles from 64 tokens on, and pair by pair below (`neq1 >= Q_TILE_SZ` in
ggml-cpu/ops.cpp). all-MiniLM-L6-v2 takes 39 ms for 62 tokens in one thread and 22 ms for 64.
"""

from __future__ import annotations

import math

TILE = 64
"""Tokens of a batch from which on it works in tiles."""
_PAIR = 1940  # weights applied to a token in the time that a head needs for a pair of tokens outside of tiles


def worth_filling(weights: int, heads: int) -> int:
    """The fewest tokens of a batch that takes no longer when it is filled up to `TILE`.

    `weights`: those that each token is multiplied with. `heads`: of all layers together. n tokens cost
    `weights * n + _PAIR * heads * n²`, and `weights * TILE` when filled up; attention in tiles is next to nothing.
    """
    pairs = _PAIR * heads
    if not weights or not pairs:
        return TILE
    return math.ceil((math.sqrt(weights**2 + 4 * pairs * TILE * weights) - weights) / (2 * pairs))
