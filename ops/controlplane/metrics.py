"""What Prometheus is told of the control plane itself: `GET /metrics` (docs/metrics.md). Counts only, content-free.

Label values cannot grow without end: routes are those of the program, statuses and codes its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.metrics.families import counter, gauge
from ops.controlplane.auth import Gate, address_of
from ops.controlplane.hub import Hub
from ops.controlplane.live import Live

NO_ROUTE = "none"


class Traffic:
    """Counts of the event loop's, since the process began."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, ...]] = Counter()  # route, status
        self.streaming: Counter[tuple[str, ...]] = Counter()  # route: replies that have begun and not ended


class Counted:
    """ASGI, around everything: counts each reply by its route, and those that are still going out."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun: list[str] = []

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(route_of(scope))
                self._traffic.answered[begun[0], str(message["status"])] += 1
                self._traffic.streaming[(begun[0],)] += 1
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            for route in begun:
                self._traffic.streaming[(route,)] -= 1


def route_of(scope: Scope) -> str:
    """The path as the program has it, without what a request put into it; `none` where there is nothing."""
    return str(getattr(scope.get("route"), "path", "")) or NO_ROUTE


class PlaneCollector(Collector):
    """Asked on the event loop."""

    def __init__(self, traffic: Traffic, gate: Gate, hub: Hub, live: Live) -> None:
        self._traffic = traffic
        self._gate = gate
        self._hub = hub
        self._live = live

    def collect(self) -> Iterator[Metric]:
        traffic, hub = self._traffic, self._hub
        refused = {(code,): count for code, count in self._gate.refused.items()}
        yield counter("pendra_api_requests", "Replies, by route.", ("route", "status"), traffic.answered)
        yield gauge("pendra_api_streams_open", "Replies that are going out.", ("route",), traffic.streaming)
        yield counter("pendra_api_keys_refused", "Requests whose key was not good.", ("code",), refused)
        yield gauge("pendra_api_jobs_open", "Requests that a bridge has.", (), {(): hub.open_jobs})
        yield gauge("pendra_api_bridges_connected", "Bridges on the line.", (), {(): len(hub.connected())})
        yield gauge("pendra_api_identities_pending", "Bridges to approve.", (), {(): len(self._live.pending)})

    def describe(self) -> Iterator[Metric]:
        return iter(())


class MetricsApi:
    """`GET /metrics`: from this machine without a key, from elsewhere with an admin's."""

    def __init__(self, gate: Gate, collector: PlaneCollector) -> None:
        self._gate = gate
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def routes(self) -> list[BaseRoute]:
        return [Route("/metrics", self.show)]

    async def show(self, request: Request) -> Response:
        """In the text format or OpenMetrics, as `Accept` says."""
        if not _is_this_machine(request.scope):
            self._gate.admin(request.scope)
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": kind})


def _is_this_machine(scope: Scope) -> bool:
    try:
        address = ip_address(address_of(scope).partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
