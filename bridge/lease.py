"""One bridge process at a time owns the jobs of a bridge id; another one waits until its lease has lapsed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time

import redis
import redis.asyncio as aredis

from tasks import keys
from tasks.errors import UnavailableError
from tasks.logs import event
from tasks.scripts import BridgeScripts

log = logging.getLogger("pendra.bridge.lease")

_RENEW_S = keys.BRIDGE_LEASE_S / 3
_RETRY_S = 0.25
_AWAY_S = 1.0  # a Redis that was silent for longer may have let the lease of a living bridge lapse
_NOT_NOW = 2**53  # above every epoch: only look who has it
_FIRST = 1  # the epoch of the first holder
_FRESH_S = 1.0  # a Redis without any epoch is new, or has just lost its data: time for a holder to ask first


class LeaseLostError(UnavailableError):
    """Another process took the jobs over while we were stopped or cut off."""


class Lease:
    """`run` until cancelled. `answered` is set once Redis has said anything, `held` while the lease is ours."""

    def __init__(self, client: aredis.Redis, bridge_id: str) -> None:
        self._bridge_id = bridge_id
        self._token = secrets.token_hex(8)
        self.scripts = BridgeScripts(client, bridge_id, self._token)
        """Those that stop working when the lease is another's."""
        self._epoch = 0
        self._asked = 0.0
        self._patient_until = 0.0
        self.answered = asyncio.Event()
        self.held = asyncio.Event()

    async def run(self) -> None:
        """Take the lease, waiting for it if need be, and keep it. Raises LeaseLostError.

        A Redis that was away or has lost its data takes it from nobody: who waits for it gives its holder the time
        of a lease to ask first, and who has just started _FRESH_S.
        """
        while True:
            try:
                ours = await self._ask()
            except (redis.RedisError, OSError):
                await asyncio.sleep(_RETRY_S)
                continue
            self._judge(ours=ours)
            await asyncio.sleep(_RENEW_S if ours else _RETRY_S)

    async def _ask(self) -> bool:
        ours, epoch = await self.scripts.hold(
            self._bridge_id, self._token, keys.BRIDGE_LEASE_S, known=self._known(time.monotonic())
        )
        self._asked = time.monotonic()
        if self._waits and epoch < self._epoch:
            self._patient_until = self._asked + keys.BRIDGE_LEASE_S
        elif not self.answered.is_set() and not epoch:
            self._patient_until = self._asked + _FRESH_S
        self._epoch = epoch
        return ours

    @property
    def _waits(self) -> bool:
        return self.answered.is_set() and not self.held.is_set()

    def _known(self, now: float) -> int:
        """Of which epoch to speak: below it a free lease is not taken."""
        if not self._waits:
            return 0 if self.held.is_set() else _FIRST
        if now - self._asked > _AWAY_S:
            self._patient_until = now + keys.BRIDGE_LEASE_S
        return _NOT_NOW if now < self._patient_until else self._epoch

    async def confirm(self) -> None:
        """Ask once more, as far as Redis answers. Raises LeaseLostError."""
        with contextlib.suppress(redis.RedisError, OSError):
            self._judge(ours=await self._ask())

    async def give_back(self) -> None:
        """So that a successor need not wait. Raises redis.RedisError."""
        if self.held.is_set():
            await self.scripts.hold(self._bridge_id, self._token, 0)

    def _judge(self, *, ours: bool) -> None:
        if not ours and self.held.is_set():
            raise LeaseLostError(f"another bridge process took over the jobs of '{self._bridge_id}'")
        if not ours and not self.answered.is_set() and self._epoch:
            event(log, logging.WARNING, "bridge.standby", bridge_id=self._bridge_id)
        if ours:
            self.held.set()
        self.answered.set()
