"""Prompts for benchmarks: different enough that no prefix cache helps, alike in length."""

from __future__ import annotations

TOPICS = (
    "rivers", "bridges", "clocks", "bread", "winter", "maps", "lighthouses", "gardens", "ships", "music", "glass",
    "mountains", "letters", "trains", "honey", "stars", "paper", "wool", "salt", "copper", "harbours", "windmills",
    "markets", "kites", "wells", "forests", "cheese", "stone", "ink", "silk", "bells", "ropes",
)  # fmt: skip


def prompts(count: int) -> list[str]:
    return [f"Tell me about {TOPICS[n % len(TOPICS)]}, part {n}, in a few plain paragraphs." for n in range(count)]
