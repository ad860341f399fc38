"""One look for one kind of server: where it may be, who answers there, what it serves. Never raises.

An endpoint that was configured is the only place; else `localhost`, then `host.docker.internal` (the host, seen from
a container), asked at the same time: the first of them that is the server wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit, urlunsplit

import httpx

from tasks.cancelling import ended
from tasks.logs import event, where
from tasks.settings_values import OFF
from worker.backends.external.faults import LABELS
from worker.backends.external.presence import Missed, Seen, Sighting
from worker.backends.external.product import Found, NotFoundHere, Product
from worker.backends.external.upstream import reason

_LOG = logging.getLogger("pendra.discovery")
HOSTS = ("localhost", "host.docker.internal")
PROBE_S = 5.0  # a probe asks more than once
LIST_S = 15.0  # a server with many models is asked about each of them at the first look


def places(product: Product, endpoint: str) -> tuple[str, ...]:
    """Where to look: nowhere when it is off. Pure."""
    if endpoint == OFF:
        return ()
    return (endpoint,) if endpoint else tuple(f"http://{host}:{product.default_port}" for host in HOSTS)


def bare(url: str) -> str:
    """The URL without a user and password, for people and logs. Pure."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def look(http: httpx.AsyncClient, product: Product, endpoint: str, others: Iterable[Product] = ()) -> Sighting:
    """What is there now. `others` are tried, too, at a configured endpoint that is not the product's."""
    urls = places(product, endpoint)
    found, missed = await _first(http, product, urls)
    if found is not None:
        return await _listed(http, product, found)
    if endpoint and missed and (stranger := await _who(http, endpoint, others)):
        return Missed(f"{bare(endpoint)} is {stranger}, not {LABELS[product.name]}")
    return _together(urls, missed)


async def _first(http: httpx.AsyncClient, product: Product, urls: Sequence[str]) -> tuple[Found | None, list[Missed]]:
    """Who answers at the first place where somebody does; all are asked at once, later ones not waited for."""
    probes = [asyncio.ensure_future(_probe(http, product, url)) for url in urls]
    missed: list[Missed] = []
    try:
        for probe in probes:
            seen = await probe
            if isinstance(seen, Found):
                return seen, missed
            missed.append(seen)
        return None, missed
    finally:
        await ended(*probes)


async def _probe(http: httpx.AsyncClient, product: Product, url: str) -> Found | Missed:
    try:
        async with asyncio.timeout(PROBE_S):
            return await product.probe(http, url)
    except NotFoundHere as exc:
        return _missed(url, str(exc), exc)
    except TimeoutError as exc:
        return _missed(url, f"no answer within {PROBE_S:g} s", exc)
    except Exception as exc:  # noqa: BLE001  # whatever stands at a port must not end discovery
        return _missed(url, _words(product, exc), exc)


async def _listed(http: httpx.AsyncClient, product: Product, found: Found) -> Sighting:
    try:
        async with asyncio.timeout(LIST_S):
            return Seen(found, await product.models(http, found))
    except TimeoutError as exc:
        why: str = f"no answer within {LIST_S:g} s"
        cause: Exception = exc
    except NotFoundHere as exc:
        why, cause = str(exc), exc
    except Exception as exc:  # noqa: BLE001  # as above
        why, cause = _words(product, exc), exc
    return _missed(
        found.url, f"{bare(found.url)} is {LABELS[product.name]}, but does not list its models: {why}", cause
    )


async def _who(http: httpx.AsyncClient, url: str, others: Iterable[Product]) -> str:
    """Which other product answers there; "" = none that we know."""
    found = await asyncio.gather(*(_probe(http, other, url) for other in others))
    return " and ".join(LABELS[one.product] for one in found if isinstance(one, Found))


def _missed(url: str, why: str, exc: BaseException) -> Missed:
    return Missed(why, frozenset({url}) if _late(exc) else frozenset())


def _words(product: Product, exc: Exception) -> str:
    if isinstance(exc, httpx.HTTPError):
        return reason(exc)
    event(_LOG, logging.WARNING, "probe.crashed", product=product.name, error=type(exc).__name__, at=where(exc))
    return f"what answers there is not {LABELS[product.name]} ({type(exc).__name__})"


def _late(exc: BaseException | None) -> bool:
    """Whether a time limit is behind it: something accepts connections there, only it is not quick enough."""
    while exc is not None and not isinstance(exc, httpx.ConnectTimeout):
        if isinstance(exc, TimeoutError | httpx.TimeoutException):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _together(urls: Sequence[str], missed: Sequence[Missed]) -> Missed:
    """One sentence for all places; the same words are said once."""
    late = frozenset[str]().union(*(one.late for one in missed))
    if len({one.why for one in missed}) == 1:
        return Missed(f"{' and '.join(map(bare, urls))}: {missed[0].why}", late)
    return Missed("; ".join(f"{bare(url)}: {one.why}" for url, one in zip(urls, missed, strict=True)), late)
