"""The way to the API: a WebSocket through TLS and proxies, up to the API's challenge; and what its clock says.

No hello is sent, so nothing about this host's identity is tried or used up.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass

from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidStatus, ProxyError, WebSocketException
from websockets.sync.client import connect

from bridge.protocol import MAX_CLOCK_SKEW_S, PATH, Challenge, decode_api
from ops.doctor.dns import through_proxy
from ops.doctor.verdict import Verdict, failed, ok, warning
from tasks.errors import PendraError

LINK, CLOCK = "api", "clock"
_TIMEOUT_S = 8.0


@dataclass(frozen=True, slots=True)
class Facts:
    """`failure`: why no challenge came. `skew_s`: our clock less the API's, give or take the answer's way."""

    url: str
    proxied: bool
    failure: Exception | None = None
    took_ms: float = 0.0
    skew_s: float | None = None


def look(url: str) -> list[Verdict]:
    """`url`: the API's, as APP_SERVER_WS_URL has it."""
    return judge(_knock(url.rstrip("/") + PATH))


def _knock(url: str) -> Facts:
    began = time.monotonic()
    try:
        with connect(url, open_timeout=_TIMEOUT_S, close_timeout=1.0, compression=None) as socket:
            frame = decode_api(socket.recv(timeout=_TIMEOUT_S))
    except (OSError, TimeoutError, WebSocketException, PendraError) as exc:
        return Facts(url, through_proxy(url), failure=exc)
    skew = time.time() - frame.time if isinstance(frame, Challenge) else None
    return Facts(url, through_proxy(url), took_ms=1000 * (time.monotonic() - began), skew_s=skew)


def judge(facts: Facts) -> list[Verdict]:
    way = " through the proxy" if facts.proxied else ""
    if facts.failure is not None:
        found, fix = explain(facts.failure, proxied=facts.proxied)
        return [failed(LINK, f"{facts.url}{way}: {found}", fix)]
    if facts.skew_s is None:
        fix = "APP_SERVER_WS_URL names something else, or a newer API: update this host"
        return [failed(LINK, f"{facts.url} answers{way}, but not with a challenge", fix)]
    return [ok(LINK, f"{facts.url} answers{way} in {facts.took_ms:.0f} ms"), judge_clock(facts.skew_s, "the API's")]


def judge_clock(skew_s: float, whose: str) -> Verdict:
    """`skew_s`: our clock less the other's."""
    fix = "set this host's clock, and keep it with NTP (`timedatectl set-ntp true`)"
    found = f"this host's clock is {skew_s:+.1f} s against {whose}"
    if abs(skew_s) > MAX_CLOCK_SKEW_S:
        return failed(CLOCK, f"{found}; the API refuses more than {MAX_CLOCK_SKEW_S} s", fix)
    if abs(skew_s) > MAX_CLOCK_SKEW_S / 10:
        return warning(CLOCK, f"{found}; deadlines are off by as much", fix)
    return ok(CLOCK, found)


def explain(failure: Exception, *, proxied: bool) -> tuple[str, str]:
    """What is wrong, and what to do. Pure."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        why = getattr(failure, "verify_message", "no reason given")
        return (
            f"its certificate is not trusted ({why})",
            "a TLS inspecting proxy? Name its CA in SSL_CERT_FILE; a wrong clock makes certificates invalid, too",
        )
    if isinstance(failure, InvalidProxy | ProxyError):
        return "the proxy refused or is none", "correct HTTPS_PROXY, and allow CONNECT to the API's host and port"
    if isinstance(failure, InvalidStatus):
        status = failure.response.status_code
        return (
            f"HTTP {status} instead of a WebSocket",
            "correct APP_SERVER_WS_URL; a proxy in between must pass upgrades",
        )
    if isinstance(failure, TimeoutError):
        fix = "let the proxy reach it" if proxied else "open outbound TCP to it in the firewall, or set HTTPS_PROXY"
        return f"no answer within {_TIMEOUT_S:g} s", fix
    if isinstance(failure, InvalidHandshake):
        return "it speaks no WebSocket", "correct APP_SERVER_WS_URL"
    return (
        f"no connection ({getattr(failure, 'strerror', None) or type(failure).__name__})",
        "start what listens there, correct APP_SERVER_WS_URL, or set HTTPS_PROXY",
    )
