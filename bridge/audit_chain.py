"""The audit log as a chain: each line holds the SHA-256 of the line before it; signed checkpoints hold the newest.

Pure. A line is one JSON object without content of a request: who (`tenant`, an opaque id of the API key), when,
which model (and its file's SHA-256), which worker, how many tokens, how it ended. Changing, removing or moving a line
breaks the chain at the next one; rewriting or shortening the whole log contradicts a checkpoint kept elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bridge.identity import Identity
from tasks.contract import Frozen, Usage

GENESIS = "0" * 64
"""`prev` of a log's first line."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request that ended. `at`: seconds since the epoch; `ms` from its arrival to its end.

    `usage` None: the worker never said. `tokens_sent`: what reached the API of a plain stream that did not end well.
    """

    at: float
    job_id: str
    tenant: str
    kind: str
    model: str
    model_sha256: str | None
    worker_id: str
    outcome: str
    code: str
    sealed: bool
    attempts: int
    ms: int
    usage: Usage | None = None
    tokens_sent: int = 0

    def fields(self) -> dict[str, Any]:
        usage = self.usage
        return {
            "event": "request",
            "time": round(self.at, 3),
            "job": self.job_id,
            "tenant": self.tenant,
            "kind": self.kind,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "worker": self.worker_id or None,
            "outcome": self.outcome,
            "code": self.code or None,
            "sealed": self.sealed,
            "attempts": self.attempts,
            "ms": self.ms,
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else self.tokens_sent,
        }


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: the number of its last line (-1: it has none) and that line's SHA-256."""

    line: int = -1
    digest: str = GENESIS


def write_line(head: Head, fields: Mapping[str, Any]) -> tuple[bytes, Head]:
    """The next line (with its newline), and the head after it."""
    row = {"n": head.line + 1, "prev": head.digest, **fields}
    line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode()
    return line + b"\n", Head(head.line + 1, digest_of(line))


def digest_of(line: bytes) -> str:
    """Of a line without its newline."""
    return hashlib.sha256(line).hexdigest()


class Checkpoint(Frozen):
    """A signed head. `signature` covers all other fields."""

    log: str
    line: int
    head: str
    time: float
    public_key: str
    signature: str

    @property
    def signed(self) -> bool:
        """Whether `public_key` signed this."""
        try:
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(self.public_key, validate=True))
            key.verify(
                base64.b64decode(self.signature, validate=True), _bytes(self.log, self.line, self.head, self.time)
            )
        except (InvalidSignature, ValueError):
            return False
        return True


def sign(identity: Identity, log: str, head: Head, now: float) -> Checkpoint:
    now = round(now, 3)
    return Checkpoint(
        log=log,
        line=head.line,
        head=head.digest,
        time=now,
        public_key=identity.public_key,
        signature=identity.sign(_bytes(log, head.line, head.digest, now)),
    )


def _bytes(log: str, line: int, head: str, now: float) -> bytes:
    """The fields joined by NUL under a label, so that no signature for something else fits."""
    return b"\0".join([b"pendra-audit-v1", log.encode(), b"%d" % line, head.encode(), f"{now:.3f}".encode()])
