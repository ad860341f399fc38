"""Finds the external servers of this host, again and again, and keeps what is known of them.

tick: look (all kinds at once) ─► presence (pure: offered or not) ─► directory + reports
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import httpx

from tasks.contract import BackendReport, BackendState
from tasks.logs import event
from tasks.settings import Settings
from tasks.settings_values import OFF
from worker.backends.external.directory import Directory, directory
from worker.backends.external.looking import bare, look
from worker.backends.external.presence import Missed, Presence, Seen, after
from worker.backends.external.product import Product, ProductName

_LOG = logging.getLogger("pendra.discovery")


class Discovery:
    """One event loop only. `endpoints`: "" = look for it, `off`, or a URL. `changed`: called after each look.

    A kind that is slow to answer keeps no other waiting.
    """

    def __init__(
        self,
        products: Sequence[Product],
        endpoints: Mapping[ProductName, str],
        order: Sequence[str],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._products = tuple(products)
        self._endpoints = endpoints
        self._order = order
        self._changed = changed
        self._presences = {product.name: Presence() for product in products}

    async def tick(self, http: httpx.AsyncClient) -> None:
        """Look once for all that are not off. Takes as long as the slowest; never raises."""
        on = [product for product in self._products if self._endpoints[product.name] != OFF]
        await asyncio.gather(*(self._look(http, product) for product in on))

    async def _look(self, http: httpx.AsyncClient, product: Product) -> None:
        name, others = product.name, [other for other in self._products if other.name != product.name]
        sighting = await look(http, product, self._endpoints[name], others)
        before = self._presences[name]
        self._presences[name] = now = after(before, sighting, time.monotonic())
        _tell(name, before, now)
        self._changed()

    def directory(self, only: Sequence[str] | None = None) -> Directory:
        """What can be served now."""
        presences = ((product, self._presences[product.name]) for product in self._products)
        shown = ((product, one.shown) for product, one in presences if one.shown is not None)
        return directory(shown, self._order, only)

    def reports(self) -> tuple[BackendReport, ...]:
        """All kinds, in the order of preference."""
        names = sorted(self._presences, key=self._order.index)
        return tuple(report(name, self._presences[name], self._endpoints[name]) for name in names)


def report(name: ProductName, presence: Presence, endpoint: str) -> BackendReport:
    """What is known of one backend, for people. Pure."""
    if endpoint == OFF:
        return BackendReport(
            product=name, state=BackendState.OFF, configured=True, why="switched off in the settings"
        )
    seen = presence.last if isinstance(presence.last, Seen) else presence.shown
    why = presence.last.why if isinstance(presence.last, Missed) else ""
    if seen is None:
        missing = BackendState.MISSING
        return BackendReport(product=name, state=missing, url=bare(endpoint), configured=bool(endpoint), why=why)
    if presence.held:
        why = f"it came and went {presence.flaps} times; offered again after {presence.to_go} more good looks"
    return BackendReport(
        product=name,
        state=BackendState.HELD if presence.held else BackendState.FOUND,
        url=bare(seen.found.url),
        configured=bool(endpoint),
        version=seen.found.version,
        latency_ms=round(seen.found.latency_ms, 1),
        models=tuple(served.info for served in seen.models),
        why=why,
    )


def endpoints_of(settings: Settings) -> dict[ProductName, str]:
    return {
        ProductName.OLLAMA: settings.ollama_endpoint,
        ProductName.VLLM: settings.vllm_endpoint,
        ProductName.LMSTUDIO: settings.lmstudio_endpoint,
        ProductName.SPEACHES: settings.speaches_endpoint,
    }


def all_off(settings: Settings) -> bool:
    """Nothing is to be looked for on this host."""
    return all(endpoint == OFF for endpoint in endpoints_of(settings).values())


def _tell(name: ProductName, before: Presence, now: Presence) -> None:
    if now.shown is not None and before.shown is None:
        found, models = now.shown.found, len(now.shown.models)
        url, version = bare(found.url), found.version
        event(_LOG, logging.INFO, "backend.found", product=name, url=url, version=version, models=models)
    elif now.shown is None and before.shown is not None:
        why = now.last.why if isinstance(now.last, Missed) else ""
        event(_LOG, logging.WARNING, "backend.gone", product=name, why=why, flaps=now.flaps)
