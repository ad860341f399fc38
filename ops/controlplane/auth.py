"""Who asks: the API key of a request."""

from __future__ import annotations

from collections.abc import Mapping

from ops.controlplane.keystore import KEY_PREFIX, ApiKey, KeyStore
from tasks.errors import AuthError

_WORDS_NONE = f"no API key; send `Authorization: Bearer {KEY_PREFIX}…` or `x-api-key: {KEY_PREFIX}…`"
_WORDS_SCHEME = f"the Authorization header must be `Bearer {KEY_PREFIX}…`"
_WORDS_UNKNOWN = "this API key is unknown or was revoked; the first key of a local stack is in its home, file api-key"

_WORDS_NO_ADMIN = (
    "this API key may use models, not install or remove them; `pendra keys create NAME --admin` makes one that may"
)


def authenticate(headers: Mapping[str, str], keys: KeyStore) -> ApiKey:
    """The live key the request carries. Raises AuthError, which never quotes what was sent."""
    plain = _presented(headers)
    key = keys.find(plain)
    if key is None:
        raise AuthError(_WORDS_UNKNOWN)
    return key


def authenticate_admin(headers: Mapping[str, str], keys: KeyStore) -> ApiKey:
    """The live key the request carries, which may change the fleet. Raises AuthError."""
    key = authenticate(headers, keys)
    if not key.admin:
        raise AuthError(_WORDS_NO_ADMIN, code="admin_key_needed")
    return key


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
