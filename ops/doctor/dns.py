"""Whether the API's name has an address."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from websockets.proxy import get_proxy
from websockets.uri import parse_uri

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
    """Whether the bridge's link to this URL goes through a proxy (HTTPS_PROXY, NO_PROXY …), as websockets decides."""
    return get_proxy(parse_uri(url)) is not None
