"""Whether the API's name has an address."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ops.doctor.verdict import Verdict, failed, ok, skipped

CHECK = "dns"


def look(url: str) -> list[Verdict]:
    """`url`: the API's."""
    host = urlsplit(url).hostname or ""
    if through_proxy(url):
        return [skipped(CHECK, f"the proxy looks {host} up")]
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        return [judge(host, (), str(getattr(exc, "strerror", None) or type(exc).__name__))]
    return [judge(host, tuple(dict.fromkeys(str(row[4][0]) for row in rows)), "")]


def judge(host: str, addresses: tuple[str, ...], why: str) -> Verdict:
    if addresses:
        return ok(CHECK, f"{host} is {', '.join(addresses[:3])}")
    fix = "correct the host in APP_SERVER_WS_URL, or this host's name server (/etc/resolv.conf)"
    return failed(CHECK, f"the name {host} has no address: {why}", fix)


def through_proxy(url: str) -> bool:
    """Whether HTTPS_PROXY, HTTP_PROXY or ALL_PROXY counts for this URL, and NO_PROXY does not."""
    parts, proxies = urlsplit(url), getproxies()
    kinds = ("wss", "https", "all", "socks") if parts.scheme == "wss" else ("ws", "http", "all", "socks")
    return any(kind in proxies for kind in kinds) and not proxy_bypass(parts.hostname or "")
