"""Which servers an install may reach when it was asked for by somebody else than this host's own operator.

Tasks and catalogues come from afar, and a source in one of them must not make this host knock at doors of its own
network: `https` only, and no address that is not public (RFC 6890), whatever name stands for it. Names are resolved
once, every address is judged, and the connection goes to the address that was judged, so that a name that changes its
mind in between (DNS rebinding) gains nothing. Each redirect goes the same way.

Where the environment names a proxy, that resolves the names and decides; then only addresses in the URL are judged.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.request import getproxies

import httpcore
import httpx

from worker.store.errors import DownloadError, SourceError
from worker.store.planner import InstallSpec
from worker.store.sources import FileSource, HttpSource, parse_source

_ALLOW = "PENDRA_PRIVATE_SOURCES=true on that host allows it"
Address = IPv4Address | IPv6Address


def check(spec: InstallSpec) -> None:
    """Raises SourceError for a source that somebody from afar may not name."""
    for url in (spec.source, *spec.mirrors):
        source = parse_source(url)
        if isinstance(source, FileSource):
            raise SourceError(f"a file of the host itself is no source for an install from elsewhere; {_ALLOW}")
        if isinstance(source, HttpSource):
            _check_url(httpx.URL(source.url))


def client_options() -> dict[str, Any]:
    """For `httpx.Client`: how it connects."""
    if {"https", "all"} & getproxies().keys():
        return {"event_hooks": {"request": [_check_request]}}
    return {"transport": PublicTransport()}


class PublicTransport(httpx.HTTPTransport):
    """Connects to public addresses only, and never by way of a proxy."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = httpcore.ConnectionPool(ssl_context=httpx.create_ssl_context(), network_backend=PublicBackend())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _check_request(request)
        return super().handle_request(request)


class PublicBackend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """TLS still checks the certificate against the name. Raises DownloadError, httpcore.ConnectError."""
        last: Exception | None = None
        for address in _judged(host, port):
            try:
                return super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                last = exc
        raise last or httpcore.ConnectError("no address")


def is_public(address: Address) -> bool:
    """Whether an address is of the open internet, the IPv4 address inside an IPv6 one included."""
    if isinstance(address, IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if inside is not None:
            return is_public(inside)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _nat64(address: IPv6Address) -> IPv4Address | None:
    """64:ff9b::/96 (RFC 6052)."""
    packed = address.packed
    return IPv4Address(packed[12:]) if packed[:12] == b"\0\x64\xff\x9b" + bytes(8) else None


def _judged(host: str, port: int) -> list[Address]:
    """All addresses of a name, if all are public: one that is not would be picked sooner or later."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise httpcore.ConnectError("the name has no address") from None
    addresses = list(dict.fromkeys(ip_address(str(row[4][0]).partition("%")[0]) for row in found))
    if not all(is_public(address) for address in addresses):
        raise DownloadError(f"it is in a private network, which an install from elsewhere may not reach; {_ALLOW}")
    return addresses


def _check_request(request: httpx.Request) -> None:
    try:
        _check_url(request.url)
    except SourceError as exc:
        raise DownloadError(exc.message) from None


def _check_url(url: httpx.URL) -> None:
    if url.scheme != "https":
        raise SourceError(f"only https:// is a source for an install from elsewhere; {_ALLOW}")
    try:
        address = ip_address(url.host)
    except ValueError:
        private = _is_inner_name(url.host.rstrip(".").lower())
    else:
        private = not is_public(address)
    if private:
        raise SourceError(f"a source in a private network is none for an install from elsewhere; {_ALLOW}")


def _is_inner_name(name: str) -> bool:
    """Judged before it is resolved, which behind a proxy never happens here."""
    return "." not in name or name.rpartition(".")[2] in {"localhost", "local", "internal"}
