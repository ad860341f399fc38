"""What a load generator is asked to do, and what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bench.prompts import TOPICS


@dataclass(frozen=True)
class Ask:
    """One request: its prompt and how many tokens its reply has, no more and no fewer."""

    prompt: str
    tokens: int


Series = list[Ask]
"""What one client asks, one request after the other."""


@dataclass(frozen=True)
class Sample:
    """One streamed request: seconds to its first text, to its end, and between its texts; tokens by `usage`."""

    ttft: float
    total: float
    tokens: int
    gaps: tuple[float, ...] = ()


@dataclass(frozen=True)
class Load:
    """One round of `concurrent` clients started together."""

    concurrent: int
    seconds: float
    samples: tuple[Sample, ...]

    @property
    def tokens_per_second(self) -> float:
        return sum(s.tokens for s in self.samples) / self.seconds

    @property
    def ttft_ms(self) -> float:
        return 1000 * median(s.ttft for s in self.samples)

    @property
    def gap_p99_ms(self) -> float:
        gaps = sorted(gap for s in self.samples for gap in s.gaps)
        return 1000 * gaps[int(0.99 * len(gaps))] if gaps else 0.0


def burst(clients: int, tokens: int) -> list[Series]:
    """Everybody asks once, at the same moment, for equally long replies."""
    return [[Ask(_prompt(n), tokens)] for n in range(clients)]


def steady(clients: int, tokens: int, each: int) -> list[Series]:
    """Everybody asks `each` times; replies are half to one and a half times `tokens` long, so that they disperse."""
    lengths = [
        [tokens // 2 + tokens * ((7 * n + 5 * turn) % 16) // 16 for turn in range(each)] for n in range(clients)
    ]
    return [
        [Ask(_prompt(n + turn * clients), length) for turn, length in enumerate(row)] for n, row in enumerate(lengths)
    ]


def _prompt(n: int) -> str:
    return f"Tell me about {TOPICS[n % len(TOPICS)]}, part {n}, in a few plain paragraphs."
