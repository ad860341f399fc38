"""How one engine is set up: plain numbers, chosen by whoever loads the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigError
from tasks.model_options import KvType as KvType  # noqa: PLC0414  # ours, too

MAX_SLOTS = 64
MOST_DRAFTED = 16

LANES_CPU = 2
"""Batches that an embedding engine computes at once on a CPU; on a GPU one is what fills it."""

SHORT = 512
"""Tokens of an embedding input that any lane takes."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter's file, and how strongly it counts (1 = as trained)."""

    path: Path
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine's size and threads.

    `ctx_per_seq` is the most tokens one request may hold, prompt and reply together (the model's trained context
    caps it). `n_ctx` is the KV cells of all slots together; None = `slots * ctx_per_seq`, which never preempts.
    Fewer cells over-commit: then requests share one pool (`kv_unified`), wait for room, and the youngest is
    recomputed when it runs out.

    `kv_unified` None chooses: one pool when over-committed (or with one slot), else one stream a slot, whose
    attention reads only its own cells. `n_batch` is the most tokens of one step; `prefill_chunk` the most prompt
    tokens of a step in which other requests are decoding, which bounds their pause (None = about 200 ms worth).

    `kv_type` stores keys and values, unless `kv_type_v` says otherwise of the values.

    `speculation` lets a step check guessed tokens where that is measured to pay; the text is the same without.
    """

    slots: int = 4
    ctx_per_seq: int = 4096
    n_ctx: int | None = None
    n_batch: int = 512
    n_ubatch: int = 512
    prefill_chunk: int | None = None
    threads: int = 1
    threads_batch: int | None = None
    kv_type: KvType = KvType.F16
    kv_type_v: KvType | None = None
    flash_attn: bool | None = None
    kv_unified: bool | None = None
    speculation: bool = True

    def __post_init__(self) -> None:
        _require(1 <= self.slots <= MAX_SLOTS, "slots", self.slots, f"1 to {MAX_SLOTS}")
        _require(self.ctx_per_seq >= 1, "ctx_per_seq", self.ctx_per_seq, "1 or more")
        _require(self.n_ctx is None or self.n_ctx >= 1, "n_ctx", self.n_ctx, "1 or more, or None")
        _require(self.n_batch > self.slots, "n_batch", self.n_batch, f"more than the {self.slots} slots")
        _require(self.n_ubatch >= 1, "n_ubatch", self.n_ubatch, "1 or more")
        _require(self.threads >= 1, "threads", self.threads, "1 or more")
        chunk = self.prefill_chunk
        _require(chunk is None or chunk >= 1, "prefill_chunk", chunk, "1 or more, or None")
        pooled = self.kv_unified is not False or not self.overcommitted
        _require(pooled, "kv_unified", self.kv_unified, "True or None when n_ctx is less than slots * ctx_per_seq")

    @property
    def values_type(self) -> KvType:
        return self.kv_type_v or self.kv_type

    @property
    def cells(self) -> int:
        """KV cells of the whole engine, as asked for (llama.cpp rounds up)."""
        return self.slots * self.ctx_per_seq if self.n_ctx is None else self.n_ctx

    @property
    def most_drafted(self) -> int:
        """Guessed tokens of one step at most."""
        return MOST_DRAFTED if self.speculation else 0

    @property
    def outputs(self) -> int:
        """Rows of logits of one step at most: a slot's own, and those of guessed (or scored prompt) tokens."""
        return min(self.n_batch, self.slots + MOST_DRAFTED)

    @property
    def overcommitted(self) -> bool:
        return self.cells < self.slots * self.ctx_per_seq

    @property
    def unified(self) -> bool:
        if self.kv_unified is None:
            return self.overcommitted or self.slots == 1
        return self.kv_unified


def _require(ok: bool, name: str, value: object, allowed: str) -> None:  # noqa: FBT001  # reads as a sentence
    if not ok:
        raise ConfigError(f"engine setting {name} is {value!r}; allowed: {allowed}")
