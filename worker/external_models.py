"""Models of the external servers of this host: asking a server to fetch one, or to remove it.

The server does the work and keeps the files; we find it (as the proxy worker does), hand its progress on, and end the
request when somebody stops it, which ends the server's download. What came of it stays with the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from tasks.cancelling import ended
from tasks.errors import PendraError, UnavailableError
from tasks.logs import event
from tasks.settings import Settings
from tasks.settings_values import OFF
from worker.backends.external.discovery import endpoints_of
from worker.backends.external.faults import LABELS, UNAVAILABLE
from worker.backends.external.looking import look
from worker.backends.external.presence import Missed, Seen
from worker.backends.external.product import Product, ProductName, PullProgress
from worker.backends.external.registry import products as known_products
from worker.proxy_runtime import make_client
from worker.store.curated import PENDRA
from worker.store.errors import UnsupportedSource
from worker.store.run import Stop, Stopped, never

_LOG = logging.getLogger("pendra.installer")
_LOOK_S = 0.2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pulled:
    """`fetched`: False when the server had it already. `url`: which server."""

    backend: ProductName
    name: str
    url: str
    fetched: bool


class ExternalModels:
    """Blocking; any thread that runs no event loop. `products`: another set than this build's."""

    def __init__(self, settings: Settings, products: Sequence[Product] | None = None) -> None:
        self._settings = settings
        self._endpoints = endpoints_of(settings)
        self._products = known_products() if products is None else tuple(products)

    def install(
        self, backend: str, name: str, progress: PullProgress, stop: Callable[[], Stop | None] = never
    ) -> Pulled:
        """Have the server fetch a model by its own name of it; quick when it has it.

        Raises UnsupportedSource (no such backend), UnavailableError (no such server here), InstallCancelled, and what
        the server says as PendraError.
        """
        product = self._product(backend)
        return asyncio.run(_watched(self._install(product, name, progress), stop))

    def uninstall(self, backend: str, name: str) -> str:
        """Have the server remove a model; the URL of the server. Raises as `install` does."""
        product = self._product(backend)
        return asyncio.run(self._uninstall(product, name))

    # ---------------------------------------------------------------- on the loop

    async def _install(self, product: Product, name: str, progress: PullProgress) -> Pulled:
        async with make_client(self._settings) as http:
            seen = await self._look(http, product)
            there = _has(seen, name)
            if not there:
                event(_LOG, logging.INFO, "install.began", model=name, backend=product.name, url=seen.found.url)
                await product.install(http, seen.found, name, progress)
            return Pulled(product.name, name, seen.found.url, fetched=not there)

    async def _uninstall(self, product: Product, name: str) -> str:
        async with make_client(self._settings) as http:
            seen = await self._look(http, product)
            await product.uninstall(http, seen.found, name)
            return seen.found.url

    async def _look(self, http: httpx.AsyncClient, product: Product) -> Seen:
        endpoint = self._endpoints[product.name]
        others = [other for other in self._products if other.name != product.name]
        sighting = await look(http, product, endpoint, others)
        if isinstance(sighting, Missed):
            why = f"{product.name.upper()}_ENDPOINT switches it off" if endpoint == OFF else sighting.why
            raise UnavailableError(f"{LABELS[product.name]} is not there: {why}", code=UNAVAILABLE)
        return sighting

    def _product(self, backend: str) -> Product:
        found = next((product for product in self._products if product.name == backend), None)
        if found is None:
            have = ", ".join((PENDRA, *(product.name for product in self._products)))
            raise UnsupportedSource(f"there is no backend {backend} to install into; there are {have}")
        return found


async def _watched(work: Coroutine[Any, Any, T], stop: Callable[[], Stop | None]) -> T:
    """Do it, unless `stop` says otherwise. Raises InstallCancelled."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait([task], timeout=_LOOK_S)
        if not task.done() and (why := stop()) is not None:
            await ended(task)
            raise Stopped(why)
    return _outcome(task)


def _outcome(task: asyncio.Task[T]) -> T:
    try:
        return task.result()
    except httpx.HTTPError as exc:
        why = f"the server did not answer ({type(exc).__name__})"
        raise PendraError(why, code=UNAVAILABLE) from None


def _has(seen: Seen, name: str) -> bool:
    wanted = _whole(name)
    return any(wanted in (_whole(model.name), _whole(model.info.id)) for model in seen.models)


def _whole(name: str) -> str:
    """Ollama's `latest` may be left out."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
