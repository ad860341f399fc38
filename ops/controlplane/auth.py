"""Who asks: the API key of a request, what it may do, and how often one may guess."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.types import Scope

from ops.controlplane.guard import Guard
from ops.controlplane.keystore import KEY_PREFIX, ApiKey, KeyStore, hash_of
from ops.controlplane.rates import Rates
from tasks.errors import AuthError, BusyError, PendraError

_WORDS_NONE = f"no API key; send `Authorization: Bearer {KEY_PREFIX}…` or `x-api-key: {KEY_PREFIX}…`"
_WORDS_SCHEME = f"the Authorization header must be `Bearer {KEY_PREFIX}…`"
_WORDS_UNKNOWN = (  # one text for all that is wrong with a key: a guesser learns nothing from it
    "this API key is not valid (unknown, expired or revoked); the first key of a local stack is in its home, file "
    "api-key"
)
_WORDS_LOCKED = "too many wrong API keys from this address; try again later"
_WORDS_NO_ADMIN = (
    "this API key may use models, not change the fleet; `pendra keys create NAME --admin` makes one that may"
)


class Gate:
    """Lets requests in. The event loop's; each call is one look into the local database."""

    def __init__(self, keys: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._guard = Guard()
        self._rates = Rates()
        self.refused: Counter[str] = Counter()
        """Requests that `user` and `admin` did not let in, by the error's code."""

    def user(self, scope: Scope) -> ApiKey:
        """The live key the request carries. Raises AuthError, which never quotes what was sent, and BusyError."""
        with self._counted():
            return self._known(scope)

    def admin(self, scope: Scope) -> ApiKey:
        """The live key the request carries, which may change the fleet. Raises like `user`."""
        key = self.user(scope)
        with self._counted():
            if not key.admin:
                raise AuthError(_WORDS_NO_ADMIN, code="admin_key_needed")
        return key

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except PendraError as exc:
            self.refused[exc.code] += 1
            raise

    def _known(self, scope: Scope) -> ApiKey:
        plain = _presented(Headers(scope=scope))
        address, key_hash = address_of(scope), hash_of(plain)
        if wait := self._guard.locked_for(address, key_hash, self._clock()):
            raise BusyError(_WORDS_LOCKED, code="too_many_failures", retry_after=wait)
        key = self._keys.find_hash(key_hash)
        if key is None:
            self._guard.failed(address, self._clock())
            raise AuthError(_WORDS_UNKNOWN)
        self._guard.succeeded(address, key_hash)
        return key

    def spend(self, key: ApiKey) -> None:
        """One request of this key. Raises BusyError(`rate_limited`)."""
        rate = key.scope.rate
        if rate is None:
            return
        if wait := self._rates.take(key.id, rate, self._clock()):
            raise BusyError(f"this API key may ask {rate:g} times a minute", code="rate_limited", retry_after=wait)


def allow(key: ApiKey, model: str) -> None:
    """Raises AuthError(`model_not_allowed`)."""
    if not key.scope.covers(model):
        raise AuthError(
            "this API key may not use this model; GET /api/v1/models lists what it may use",
            code="model_not_allowed",
            param="model",
        )


def address_of(scope: Scope) -> str:
    """Of the client; behind a proxy on this machine, what that says (uvicorn reads X-Forwarded-For from loopback)."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _presented(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization", "")
    if authorization:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AuthError(_WORDS_SCHEME)
        return token.strip()
    plain = headers.get("x-api-key", "").strip()
    if not plain:
        raise AuthError(_WORDS_NONE)
    return plain
