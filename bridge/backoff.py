"""When to dial again: exponential backoff with full jitter, and the one rule that says what is worth retrying."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from bridge.protocol import CloseCode
from tasks.errors import ConfigError

BASE_S = 0.25
CAP_S = 20.0
STABLE_S = 10.0  # a link that lasted this long ends the streak of failures


class Backoff:
    """Delays drawn from [0, min(cap, base·2ⁿ)] (“full jitter”), so that a fleet does not dial in step."""

    def __init__(
        self, *, base: float = BASE_S, cap: float = CAP_S, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._base, self._cap, self._draw = base, cap, draw
        self._failures = 0

    def next_delay(self) -> float:
        ceiling = min(self._cap, self._base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._draw(0.0, ceiling)

    def link_lasted(self, seconds: float) -> None:
        """Tell how long the last link was up; a stable one starts the series anew."""
        if seconds >= STABLE_S:
            self._failures = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """Dial again. `words` say what happened, for the log."""

    words: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """Dialling again cannot help. `words` say what to do, for stderr.

    `final`: the API wants nothing of us any more.
    """

    words: str
    final: bool = False


_FATAL: dict[int, str] = {
    CloseCode.UNKNOWN_KEY: (
        "the API does not know this worker's key. Check GPU_WORKER_PRIVATE_KEY, or register the public key"
    ),
    CloseCode.BAD_SIGNATURE: "the API could not verify this worker's signature. Copy GPU_WORKER_PRIVATE_KEY again",
    CloseCode.REVOKED: "this worker's key was revoked. Issue a new one in the console and set GPU_WORKER_PRIVATE_KEY",
    CloseCode.OLD_PROTOCOL: "the API no longer speaks this build's protocol. Update pendra-worker",
    CloseCode.CLOCK_SKEW: "this machine's clock is off by more than five minutes. Turn time synchronisation (NTP) on",
    CloseCode.REPLACED: "another bridge connected with the same worker id. Give each bridge its own WORKER_ID",
}


def verdict(failure: int | Exception, reason: str = "", *, linked_before: bool = False) -> Retry | Fatal:
    """Retryable or fatal, from a WebSocket close code or from what connecting raised. Pure.

    Fatal is what a person must put right: refused keys, an old protocol, a wrong clock, a bad URL or setting.
    Everything else (network, TLS, HTTP errors, restarts, timeouts) is tried again for ever; so is a clock that is off
    but was right when this process linked before: it jumped, and time synchronisation puts it right.
    """
    said = f" (the API said: {reason})" if reason else ""
    if isinstance(failure, int):
        words = _FATAL.get(failure)
        if words and failure == CloseCode.CLOCK_SKEW and linked_before:
            return Retry(words + said)
        return (
            Fatal(words + said, final=failure == CloseCode.REVOKED)
            if words
            else Retry(f"the link closed with code {failure}{said}")
        )
    if isinstance(failure, ConfigError):
        return Fatal(failure.message)
    return Retry(f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__)
