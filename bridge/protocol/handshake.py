"""How a link comes to be and how it ends: versions, limits of the hello, close codes, what a hello signs."""

from __future__ import annotations

from enum import IntEnum

PROTOCOL_VERSION = 1
MIN_PROTOCOL_VERSION = 1
MAX_CLOCK_SKEW_S = 300
PATH = "/ws/gpu"


class CloseCode(IntEnum):
    """WebSocket close codes of ours (4000–4999 is the private range, RFC 6455 §7.4.2)."""

    BAD_FRAME = 4400
    UNKNOWN_KEY = 4401
    BAD_SIGNATURE = 4402
    REVOKED = 4403
    REPLAYED_NONCE = 4404
    CLOCK_SKEW = 4405
    OLD_PROTOCOL = 4406
    PENDING = 4407
    HANDSHAKE_TIMEOUT = 4408
    REPLACED = 4409
    SHUTTING_DOWN = 4503


def signed_bytes(nonce: str, worker_id: str, time: float, protocol: int) -> bytes:
    """What `hello.signature` covers: the fields joined by NUL under a domain-separating label."""
    return b"\0".join(
        [b"pendra-hello-v1", nonce.encode(), worker_id.encode(), f"{time:.3f}".encode(), b"%d" % protocol]
    )
