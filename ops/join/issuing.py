"""A join token made, shown and waited for: what `pendra fleet token` does once it knows what to do."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ops.join import certificate, server, source
from ops.join.errors import JoinError
from ops.join.token import SECRET_BYTES, Token
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Terms:
    """`hosts` may use the token within `minutes`. `address`: as they dial this host, found when None.

    `redis_url`, `ca`: the fleet's Redis as they dial it, ours when None. `bind`: address and port to listen on (0:
    any free one).
    """

    hosts: int
    minutes: int
    bind: tuple[str, int]
    address: str | None = None
    redis_url: str | None = field(default=None, repr=False)
    ca: Path | None = None


def issue(settings: Settings, terms: Terms, *, ready: Callable[[Token], None], told: server.Told) -> None:
    """Hand out what a host of this fleet needs until `terms.hosts` have it. Blocks; a KeyboardInterrupt ends it.

    The token is void then. `ready` gets it when the service listens, `told` hears of every answer. Raises
    ConfigError, JoinError(`join_token_expired`).
    """
    grant = source.grant_of(settings, terms.redis_url, terms.ca)
    tls, fingerprint = certificate.server_context()
    dialled = terms.address or source.own_address(terms.redis_url or settings.redis_url)
    expires = int(time.time()) + 60 * terms.minutes

    def make(bound: int) -> Token:
        return Token(dialled, bound, expires, fingerprint, secrets.token_bytes(SECRET_BYTES))

    listening = server.listen(make, grant, bind=terms.bind, tls=tls, hosts=terms.hosts, ready=ready, told=told)
    joined = asyncio.run(listening)
    if len(joined) < terms.hosts:
        words = f"the token has expired; {len(joined)} of {terms.hosts} hosts joined"
        raise JoinError(words, code="join_token_expired")
