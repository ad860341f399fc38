"""What an installer agent is asked for, and what it says of how far it is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.frozen import Frozen


class InstallRequest(Frozen):
    """What `tasks.install_model` is asked for; its arguments are these fields, plain JSON (docs/operations.md).

    Either `model` is in the catalogue (`variant`: which quantisation), or `source` says where the file is. Sources
    hold no passwords: task arguments are visible to everybody who watches the fleet.
    """

    model: str = Field(min_length=1, max_length=256)
    source: str | None = Field(default=None, repr=False)
    sha256: str | None = None
    size: int | None = None
    purpose: Literal["chat", "embedding", "rerank", "image", "transcription"] | None = None
    licence: str | None = None
    mirrors: tuple[str, ...] = Field(default=(), repr=False)
    variant: str | None = None
    backend: str | None = None


class InstallProgress(Frozen):
    """How far an install is: the meta of the Celery state PROGRESS, and of SUCCESS's `progress`. Bytes, seconds."""

    model: str
    node: str
    stage: str
    done: int = 0
    total: int | None = None
    rate: float | None = None
    eta: float | None = None

    @property
    def fraction(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0
