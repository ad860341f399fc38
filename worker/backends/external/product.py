"""What one kind of external server is to the proxy worker: how it is recognised, listed, asked and managed.

Everything here is asynchronous and runs on the proxy worker's one event loop. Cancelling a call closes the request
to the server: that is how a job's cancel reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import httpx

from tasks.contract import Job, JobKind, ModelInfo
from worker.backends.base import Reply


class ProductName(StrEnum):
    """The values are what `ModelInfo.backend` and `--backend` say."""

    OLLAMA = "ollama"
    VLLM = "vllm"
    LMSTUDIO = "lmstudio"
    SPEACHES = "speaches"


@dataclass(frozen=True, slots=True)
class Found:
    """A server that answered and was recognised. `url` has no slash at its end; `latency_ms` is the probe's."""

    product: ProductName
    url: str
    version: str = ""
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """A model of a server. `name` is the server's own name of it, `info.id` the one we advertise.

    `info.features` says `vision`, `tools`, `thinking` where the server does, and is None where it says nothing.
    """

    info: ModelInfo
    name: str
    extra: dict[str, str] = field(default_factory=dict)


class NotFoundHere(Exception):  # noqa: N818  # an answer, not a mistake
    """Nothing of this kind is at the URL. The message says what was found instead, in words for an operator."""


PullProgress = Callable[[str, int, int | None], None]  # stage, bytes done, bytes in all


class Product(Protocol):
    """One kind of external server. Implementations keep no state of a request; `http` is shared and pooled.

    `kinds`: what it can do at all (docs: the capability matrix). `default_port`: where it is looked for.
    """

    name: ProductName
    default_port: int
    kinds: frozenset[JobKind]
    installs: bool
    uninstalls: bool

    async def probe(self, http: httpx.AsyncClient, url: str) -> Found:
        """Recognise the server at `url`. Raises NotFoundHere, saying what is there."""

    async def models(self, http: httpx.AsyncClient, found: Found) -> tuple[Served, ...]:
        """All it can serve now. Raises httpx.HTTPError or NotFoundHere when it does not answer as it should."""

    async def serve(self, http: httpx.AsyncClient, found: Found, model: Served, job: Job, reply: Reply) -> None:
        """Run the job; returns after its terminal event was given to `reply`.

        Raises PendraError instead when nothing was replied yet: `backend_unavailable` (502; another server may be
        tried), `backend_error` (502; names backend and status and carries its message, never a stack trace),
        BadRequestError for what the server says is the request's fault.
        """

    async def install(self, http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress) -> None:
        """Have the server fetch a model. Raises PendraError `install_unsupported` with what to do instead."""

    async def uninstall(self, http: httpx.AsyncClient, found: Found, model: str) -> None:
        """Have the server remove a model. Raises PendraError `uninstall_unsupported` with what to do instead."""
