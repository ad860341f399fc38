"""One bridge process at a time owns the jobs of a bridge id; another one waits until its lease has lapsed."""

from __future__ import annotations

import asyncio
import logging
import secrets

import redis
import redis.asyncio as aredis

from tasks import keys
from tasks.errors import UnavailableError
from tasks.logs import event
from tasks.scripts import BridgeScripts

log = logging.getLogger("pendra.bridge.lease")

_RENEW_S = keys.BRIDGE_LEASE_S / 3
_RETRY_S = 0.25


class LeaseLostError(UnavailableError):
    """Another process took the jobs over while we were stopped or cut off."""


class Lease:
    """`run` until cancelled. `answered` is set once Redis has said anything, `held` while the lease is ours."""

    def __init__(self, client: aredis.Redis, bridge_id: str) -> None:
        self._scripts = BridgeScripts(client)
        self._bridge_id = bridge_id
        self._key = keys.bridge_lease(bridge_id)
        self._token = secrets.token_hex(8)
        self.answered = asyncio.Event()
        self.held = asyncio.Event()

    async def run(self) -> None:
        """Take the lease, waiting for it if need be, and keep it. Raises LeaseLostError.

        A Redis that is away takes it from nobody: when it is back without its data, the first to ask has it.
        """
        while True:
            try:
                ours = await self._scripts.hold(self._key, self._token, keys.BRIDGE_LEASE_S)
            except (redis.RedisError, OSError):
                await asyncio.sleep(_RETRY_S)
                continue
            self._judge(ours=ours)
            await asyncio.sleep(_RENEW_S if ours else _RETRY_S)

    async def give_back(self) -> None:
        """So that a successor need not wait. Raises redis.RedisError."""
        if self.held.is_set():
            await self._scripts.hold(self._key, self._token, 0)

    def _judge(self, *, ours: bool) -> None:
        if not ours and self.held.is_set():
            raise LeaseLostError(f"another bridge process took over the jobs of '{self._bridge_id}'")
        if not ours and not self.answered.is_set():
            event(log, logging.WARNING, "bridge.standby", bridge_id=self._bridge_id)
        if ours:
            self.held.set()
        self.answered.set()
