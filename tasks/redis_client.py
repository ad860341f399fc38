"""Redis connections, sync and async, with the timeouts and the retry rule every part of the project uses.

No client here repeats a command by itself: after a timeout nobody knows whether a write happened, so each caller
decides (the publisher sends again because the bridge drops duplicates; a claim gives up because the bridge
re-dispatches). `retryable` is the one place that says which errors are worth another try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
import redis.asyncio as aredis
import redis.asyncio.retry as aretry
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.errors import ConfigError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

SOCKET_TIMEOUT_S = 5.0  # a frozen server must not hold a thread for ever
CONNECT_TIMEOUT_S = 2.0
HEALTH_CHECK_S = 10  # a connection idle for longer is pinged before it is used
_SCHEMES = ("redis", "rediss", "unix")

# Redis is there but cannot answer now: loading, read-only replica, out of memory, a cluster that moves.
TRANSIENT = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)
# Connection errors by inheritance, but the same credentials will be refused again.
_REFUSED = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


def connect(url: str) -> redis.Redis:
    """A blocking client (thread-safe, connects at first use). Raises ConfigError for an unusable URL."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url))


def connect_async(url: str) -> aredis.Redis:
    """An asyncio client for one event loop. Raises ConfigError for an unusable URL."""
    return aredis.Redis.from_url(url, retry=aretry.Retry(NoBackoff(), 0), **_options(url))


def celery_url(url: str) -> str:
    """The same server as Celery's broker URL wants it.

    `unix:///x.sock?db=1` becomes `redis+socket:///x.sock?virtual_host=1`; `rediss://` without `ssl_cert_reqs`
    gets `required`, because kombu would otherwise not check the certificate at all.
    """
    parts = _checked(url)
    if parts.scheme == "redis":
        return url
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")
        return parts._replace(query=urlencode(query)).geturl()
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={query.get('db', '0')}"


def retryable(error: Exception) -> bool:
    """Whether the same command may work on a later try: the server is away, slow or not ready. Pure."""
    if isinstance(error, _REFUSED):
        return False
    return isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError, *TRANSIENT))


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_S,
    }
    if _checked(url).scheme != "unix":
        options["socket_keepalive"] = True
    return options


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
        # the URL itself may hold a password, so only its scheme is quoted
        raise ConfigError(
            f"PENDRA_REDIS_URL has the form {parts.scheme or '(none)'}://…; "
            "allowed are redis://host:port/db, rediss://host:port/db and unix:///path/to.sock"
        )
    return parts
