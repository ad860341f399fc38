"""What goes into the embedding engine and what comes out: plain frozen data, no llama_cpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.errors import ConfigError, PendraError
from worker.store.gguf import Pooling

Floats = npt.NDArray[np.float32]

MAX_INPUTS = 256
"""llama.cpp's most sequences a batch."""


@dataclass(frozen=True, slots=True)
class EmbedConfig:
    """One embedding engine's size and threads.

    `ctx_per_input`: the most tokens of one input (the model's trained context caps it). `pack_tokens` and
    `pack_inputs`: how much of several inputs one batch takes; a longer input goes alone. More is not faster on a CPU:
    tokens of different inputs do not see each other, but an encoder's attention is computed for all pairs.
    `lanes`: how many batches are computed at once, sharing the `threads`, when the model keeps nothing between them
    as encoders do. `on_cpu`: nothing is offloaded. `pooling` None = what the model's file says. `slots` is how many
    requests are served at once; it only counts.
    """

    ctx_per_input: int = 8192
    pack_tokens: int = 512
    pack_inputs: int = 64
    slots: int = 4
    threads: int = 1
    lanes: int = 1
    on_cpu: bool = True
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        for name in ("ctx_per_input", "pack_tokens", "slots", "threads", "lanes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"embedding setting {name} is {getattr(self, name)}; allowed: 1 or more")
        if not 1 <= self.pack_inputs <= MAX_INPUTS:
            raise ConfigError(f"embedding setting pack_inputs is {self.pack_inputs}; allowed: 1 to {MAX_INPUTS}")


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """`inputs` are token ids, none of them empty."""

    request_id: str
    inputs: tuple[tuple[int, ...], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EmbedOutput:
    """How far a request is: `done` of `total` inputs. The last output has `vectors` or `error`.

    `vectors`: a row an input, as the model pools them, not normalised; of a reranker the score is in column 0.
    `queue_ms`: from submission to the first batch.
    """

    request_id: str
    done: int
    total: int
    vectors: Floats | None = field(default=None, repr=False)
    error: PendraError | None = None
    queue_ms: float = 0.0

    @property
    def last(self) -> bool:
        return self.vectors is not None or self.error is not None


Listener = Callable[[EmbedOutput], None]
