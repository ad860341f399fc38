"""The catalogue this control plane goes by: the site's own (`PENDRA_CATALOGUE_URL`), else the one we ship.

What it is and how it is read stands in `worker.store.curated`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from tasks.errors import PendraError
from tasks.logs import event
from worker.store.curated import Capability, Catalogue, CatalogueModel, Variant, load, load_from
from worker.store.sources import public

__all__ = ["Capability", "Catalogue", "CatalogueModel", "SiteCatalogue", "Variant", "load", "load_from"]

log = logging.getLogger("pendra.controlplane")

KEEP_S = 60.0
SHIPPED = "shipped"
UNREADABLE = "catalogue_unreadable"


class SiteCatalogue:
    """The event loop's. `url` "" = the shipped catalogue.

    A catalogue that cannot be read is replaced by the last one that could, else by the shipped one; `problem` says so
    for as long as it is the case, and `source` what is really in use.
    """

    def __init__(self, url: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = asyncio.Lock()
        self._looked: float | None = None
        self.current = load()
        self.source = SHIPPED
        self.problem: str | None = None

    def __contains__(self, model_id: object) -> bool:
        """In what was read last."""
        return model_id in self.current

    async def get(self) -> Catalogue:
        """Read again when the last look is older than a minute. Never raises for what is at the URL."""
        if not self._url:
            return self.current
        async with self._lock:
            if self._looked is None or self._clock() - self._looked >= KEEP_S:
                await self._look()
                self._looked = self._clock()
        return self.current

    async def keep(self) -> None:
        """Look again and again, until cancelled: what asks for it then rarely has to wait for the site."""
        while self._url:
            await self.get()
            await asyncio.sleep(KEEP_S)

    async def _look(self) -> None:
        try:
            self.current = await asyncio.to_thread(load_from, self._url)
        except PendraError as exc:
            instead = "ours is used instead" if self.source == SHIPPED else "the last good one is used"
            problem = f"{exc.message}; {instead}"
            if problem != self.problem:
                event(log, logging.ERROR, "catalogue.unreadable", url=public(self._url), why=exc.message)
            self.problem = problem
        else:
            self.source, self.problem = public(self._url), None
