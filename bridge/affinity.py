"""Which worker ran a conversation last, and so has its KV cache. Pure; the event loop's.

A token is opaque (the control plane makes it, of a sealed request the client) and counts within its tenant only.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT = 10_000


class Affinity:
    """Remembers the KEPT conversations that ran last."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._workers: OrderedDict[tuple[str, str], str] = OrderedDict()

    def ran(self, tenant: str, token: str | None, worker_id: str) -> None:
        """The worker runs this conversation now."""
        if token:
            self._workers[tenant, token] = worker_id
            self._workers.move_to_end((tenant, token))
            if len(self._workers) > self._kept:
                self._workers.popitem(last=False)

    def worker(self, tenant: str, token: str | None) -> str:
        """Who ran it last, "" when nobody did."""
        return self._workers.get((tenant, token), "") if token else ""
