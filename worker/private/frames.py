"""The sealed frames of one private reply, and what another worker needs to go on with them.

A frame is sealed under the response key with its seq as the nonce, so a seq is never sealed twice here: `Frames` is
used by the publisher thread alone, and starts after the last frame that was published (docs/decisions/0006).

With each frame travels a *step*, sealed under the resume key with a random nonce: the token ids whose text the frame
delivered. Every SNAPSHOT_EVERY frames a step holds all token ids, and those before it are of no more use.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tasks.errors import PrivateReplyError
from tasks.private import VERSION

SNAPSHOT_EVERY = 256
_NONCE_BYTES = 12


def frame_nonce(seq: int) -> bytes:
    return b"\0\0\0\0" + seq.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class Delivered:
    """How far a reply had come: the next frame's seq, whether any before was a part of the text, and their tokens."""

    frames: int = 0
    begun: bool = False
    tokens: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SealedFrame:
    """One frame as it travels. `whole`: `step` replaces all steps before it. `tokens` None: nobody else can go on."""

    kid: str
    data: str = field(repr=False)
    step: bytes = field(repr=False)
    whole: bool
    continuable: bool


class Frames:
    """Not thread-safe. `delivered` is where an earlier attempt stopped."""

    def __init__(self, kid: str, response_key: bytes, steps: Steps, delivered: Delivered) -> None:
        self._kid = kid
        self._aead = ChaCha20Poly1305(response_key)
        self._steps = steps
        self._next = delivered.frames
        self._begun = delivered.begun
        self._tokens = list(delivered.tokens)

    def seal(self, text: str, tokens: Sequence[int] | None = (), *, control: bool = False) -> SealedFrame:
        """The next frame. `control`: a mark of the stream, not a part of the reply."""
        seq, data = self._next, self._sealed(text)
        self._begun = self._begun or not control
        self._tokens += tokens or ()
        whole = seq % SNAPSHOT_EVERY == 0
        step = self._steps.seal(seq, self._tokens if whole else tokens or (), whole=whole, begun=self._begun)
        return SealedFrame(self._kid, data, step, whole, tokens is not None)

    def seal_only(self, text: str) -> str:
        """The one frame of a reply that does not stream."""
        return self._sealed(text)

    def _sealed(self, text: str) -> str:
        seq = self._next
        plaintext = text.encode()  # raises before the seq is used up
        self._next += 1
        ciphertext = base64.b64encode(self._aead.encrypt(frame_nonce(seq), plaintext, None)).decode()
        kid = f'"kid":"{self._kid}",' if seq == 0 else ""
        return f'{{"pendra_encrypted":{{"v":{VERSION},{kid}"seq":{seq},"ciphertext":"{ciphertext}"}}}}'


class Steps:
    """Seals and opens the steps of one job's reply. Immutable; any thread."""

    def __init__(self, resume_key: bytes, job_id: str) -> None:
        self._aead = ChaCha20Poly1305(resume_key)
        self._aad = b"pendra-pi-v1:resume\0" + job_id.encode()

    def seal(self, seq: int, tokens: Sequence[int], *, whole: bool, begun: bool) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        plain: bytes = msgpack.packb([seq, whole, begun, list(tokens)])
        return nonce + self._aead.encrypt(nonce, plain, self._aad)

    def replay(self, steps: Iterable[bytes]) -> Delivered:
        """What the steps say. Raises PrivateReplyError unless they lead from the first frame on without holes."""
        frames, begun = 0, False
        tokens: list[int] = []
        for seq, whole, began, more in map(self._open, steps):
            if seq != frames and not (whole and not frames):
                raise _broken()
            tokens = list(more) if whole else [*tokens, *more]
            frames, begun = seq + 1, began
        return Delivered(frames, begun, tuple(tokens))

    def _open(self, step: bytes) -> tuple[int, bool, bool, list[int]]:
        nonce, sealed = step[:_NONCE_BYTES], step[_NONCE_BYTES:]
        try:
            seq, whole, begun, tokens = msgpack.unpackb(self._aead.decrypt(nonce, sealed, self._aad))
        except (InvalidTag, ValueError, TypeError, msgpack.UnpackException):
            raise _broken() from None
        return seq, whole, begun, tokens


def _broken() -> PrivateReplyError:
    return PrivateReplyError("what another worker left of this private reply does not fit together; send it again")
