"""The new host's half: ask the service that the token names, and only that one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import time

from pydantic import ValidationError

from ops.join import sealing
from ops.join.certificate import client_context
from ops.join.errors import JoinError
from ops.join.grant import Answer, Ask, Grant
from ops.join.server import LINE_BYTES
from ops.join.token import Token

_TIMEOUT_S = 10.0


def fetch(token: Token, node: str, version: str, now: float | None = None) -> Grant:
    """What the fleet hands to this host. Blocks for up to ten seconds; any thread. Raises JoinError."""
    if token.left(time.time() if now is None else now) <= 0:
        raise JoinError("the token has expired; make a new one with `pendra fleet token`", code="join_token_expired")
    nonce = secrets.token_hex(16)
    ask = Ask(node=node, version=version, nonce=nonce, proof=sealing.proof(token.secret, node, nonce))
    answer = _exchange(token, ask.model_dump_json().encode() + b"\n")
    if not answer.sealed:
        raise JoinError(answer.message or "the fleet's host gave no reason", code=answer.code or None)
    try:
        sealed = base64.b64decode(answer.sealed, validate=True)
    except ValueError:
        raise _no_answer() from None
    return sealing.opened(token.secret, sealed, node, nonce)


def _exchange(token: Token, line: bytes) -> Answer:
    try:
        with (
            socket.create_connection((token.host, token.port), _TIMEOUT_S) as plain,
            client_context().wrap_socket(plain) as link,
        ):
            _check(link, token)
            link.sendall(line)
            with link.makefile("rb") as lines:
                said = lines.readline(LINE_BYTES)
            return Answer.model_validate_json(said)
    except (ConnectionRefusedError, socket.gaierror, TimeoutError) as exc:
        raise _unreachable(token, exc) from None
    except (OSError, ValidationError) as exc:
        raise _no_answer() if isinstance(exc, (ValidationError, ssl.SSLError)) else _unreachable(token, exc) from None


def _check(link: ssl.SSLSocket, token: Token) -> None:
    shown = hashlib.sha256(link.getpeercert(binary_form=True) or b"").digest()
    if not hmac.compare_digest(shown, token.fingerprint):
        raise JoinError(
            f"{token.host} port {token.port} is not the service that made this token (another certificate); nothing "
            "was sent. A newer `pendra fleet token` may run there: use its token",
            code="join_not_pinned",
        )


def _unreachable(token: Token, exc: OSError) -> JoinError:
    why = "nothing listens there" if isinstance(exc, ConnectionRefusedError) else str(exc.strerror or exc)
    return JoinError(
        f"no answer from {token.host} port {token.port}: {why}. The service ends when the token was used or has "
        "expired, or with its `pendra fleet token`: make a new token; else open the port for this host",
        code="join_unreachable",
    )


def _no_answer() -> JoinError:
    return JoinError("the fleet's host did not answer as a join service does; make a new token and try again")
