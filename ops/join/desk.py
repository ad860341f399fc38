"""Who is handed the keys: one decision for every question. Pure: the clock comes in, words go out.

A token is good for `hosts` different hosts until it expires. A host that asks again (its connection broke) is one
host. An address that was refused MOST_REFUSALS times within a minute waits that minute out.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from ops.join.errors import JoinError
from ops.join.grant import Ask
from ops.join.sealing import proves
from ops.join.token import Token

MOST_REFUSALS = 5
REFUSALS_WITHIN_S = 60.0
_ADDRESSES_KEPT = 1000


class Verdict(StrEnum):
    GRANTED = "has the keys"
    EXPIRED = "came with an expired token"
    USED = "came with a used token"
    REFUSED = "refused: another token"
    RATE_LIMITED = "not listened to: too many refusals"


ERRORS = {
    Verdict.EXPIRED: JoinError(
        "the token has expired; make a new one with `pendra fleet token`", code="join_token_expired"
    ),
    Verdict.USED: JoinError(
        "the token was used by another host; make one for this host with `pendra fleet token`",
        code="join_token_used",
    ),
    Verdict.REFUSED: JoinError(
        "the token is not the one that was printed there; copy the whole line again", code="join_refused"
    ),
    Verdict.RATE_LIMITED: JoinError(
        "too many refused attempts from this address; try again in a minute", code="join_rate_limited"
    ),
}


class Desk:
    """One token's. Not thread-safe: the server's event loop is its only caller."""

    def __init__(self, token: Token, hosts: int = 1) -> None:
        self._token = token
        self._hosts = hosts
        self.joined: dict[str, None] = {}
        """The hosts that have been handed the keys, in order."""
        self._refused: dict[str, deque[float]] = {}

    @property
    def done(self) -> bool:
        """All hosts are in."""
        return len(self.joined) >= self._hosts

    def admits(self, address: str, now: float) -> bool:
        """Whether this address is listened to at all. `now` in seconds, any clock that only grows."""
        times = self._refused.get(address, deque())
        while times and now - times[0] > REFUSALS_WITHIN_S:
            times.popleft()
        return len(times) < MOST_REFUSALS

    def decide(self, ask: Ask | None, address: str, now: float) -> Verdict:
        """`ask` None: what came was no question. `now`: seconds since the epoch."""
        if not self.admits(address, now):
            return Verdict.RATE_LIMITED
        if ask is None or not proves(self._token.secret, ask.node, ask.nonce, ask.proof):
            self._note_refusal(address, now)
            return Verdict.REFUSED
        if self._token.left(now) <= 0:
            return Verdict.EXPIRED
        if self.done and ask.node not in self.joined:
            return Verdict.USED
        self.joined[ask.node] = None
        return Verdict.GRANTED

    def _note_refusal(self, address: str, now: float) -> None:
        if address not in self._refused and len(self._refused) >= _ADDRESSES_KEPT:
            del self._refused[next(iter(self._refused))]
        self._refused.setdefault(address, deque()).append(now)
