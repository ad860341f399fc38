"""The first frames on a new connection: our challenge, the bridge's hello. Pure."""

from __future__ import annotations

from bridge.identity import Refusal, refusal
from bridge.protocol import CloseCode, Hello, decode_bridge
from ops.controlplane.registry import Registration, Status
from tasks.errors import BadRequestError

PENDING = Refusal(
    CloseCode.PENDING, "this worker key waits for approval: `pendra identities approve`, or the console"
)
REASON_BYTES = 123  # RFC 6455 §5.5: a control frame carries 125 bytes, 2 of them the code


def read_hello(text: str) -> Hello | Refusal:
    """The hello that must answer the challenge, or why this is none."""
    try:
        frame = decode_bridge(text)
    except BadRequestError as exc:
        return Refusal(CloseCode.BAD_FRAME, exc.message)
    if not isinstance(frame, Hello):
        return Refusal(CloseCode.BAD_FRAME, f"the first frame must be hello, not {frame.type}")
    return frame


def check_hello(hello: Hello, *, nonce: str, registration: Registration | None, now: float) -> Refusal | None:
    """Why the bridge may not come in, or None. `registration` is what is stored under the key it claims.

    PENDING: it has proved a key that nobody has let in yet.
    """
    status = registration.status if registration else Status.PENDING
    revoked = {hello.public_key} if status is Status.REVOKED else set()
    why = refusal(hello, nonce=nonce, known={hello.public_key}, revoked=revoked, now=now)
    if why is None and status is Status.PENDING:
        return PENDING
    return why


def close_reason(words: str) -> str:
    """`words`, cut to what a close frame can carry."""
    return words.encode()[:REASON_BYTES].decode("utf-8", "ignore")
