"""Workload keys: what clients seal requests to. X25519, one in use and, during a rotation, the one before it.

The file (`Settings.workload_key_path`, 0600) holds the private keys, the one in use first; it is the same on every
host of a fleet. There is no other way to give a process a workload key: no environment variable holds one.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tasks import key_file
from tasks.errors import ConfigError
from tasks.logs import event
from tasks.private import kid_of

_LOG = logging.getLogger("pendra.private")
KEY_BYTES = 32
LIVE = 2


class WorkloadKey:
    """A private key whose repr shows its kid only. Immutable."""

    __slots__ = ("kid", "private", "public")

    def __init__(self, raw: bytes) -> None:
        """Raises ConfigError unless `raw` is 32 bytes."""
        if len(raw) != KEY_BYTES:
            raise ConfigError(f"a workload key holds {KEY_BYTES} bytes, not {len(raw)}")
        self.private = X25519PrivateKey.from_private_bytes(raw)
        self.public = self.private.public_key().public_bytes_raw()
        self.kid = kid_of(self.public)

    def __repr__(self) -> str:
        return f"WorkloadKey(kid={self.kid})"

    @classmethod
    def generate(cls) -> WorkloadKey:
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_base64(cls, text: str) -> WorkloadKey:
        try:
            return cls(base64.b64decode(text, validate=True))
        except ValueError:
            raise ConfigError("a workload key is not base64") from None

    def to_base64(self) -> str:
        return base64.b64encode(self.private.private_bytes_raw()).decode()

    @property
    def public_base64(self) -> str:
        return base64.b64encode(self.public).decode()


def load(path: Path) -> tuple[WorkloadKey, ...]:
    """The keys in the file, none when there is no file. Raises ConfigError naming the file, never its content."""
    try:
        return tuple(WorkloadKey.from_base64(line) for line in (key_file.read(path) or ())[:LIVE])
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc.message}; `pendra keys fingerprint` shows what a good file holds") from None


def ensure(path: Path) -> bool:
    """Make the fleet's first key unless the file is there; whether it was made."""
    return key_file.ensure(path, lambda: WorkloadKey.generate().to_base64())


def rotate(path: Path) -> tuple[WorkloadKey, ...]:
    """Put a new key in front; the one in use until now stays live, an older one goes. Returns the live ones."""
    live = (WorkloadKey.generate(), *load(path)[: LIVE - 1])
    key_file.write(path, [key.to_base64() for key in live])
    return live


def retire(path: Path) -> tuple[WorkloadKey, ...]:
    """End a rotation: only the key in use stays. Returns what went."""
    keys = load(path)
    if len(keys) > 1:
        key_file.write(path, [keys[0].to_base64()])
    return keys[1:]


class Keyring:
    """The live keys of this process, read again when the file changes. Any thread.

    A file that has become bad or vanished changes nothing (and is logged): the keys from before stay live.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a bad file."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._keys = load(path)

    def live(self) -> tuple[WorkloadKey, ...]:
        """The newest first. Blocks for a look at the file's date."""
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._reload()
            return self._keys

    def first_of(self, kids: Iterable[str]) -> WorkloadKey | None:
        """The first of these that is live here."""
        live = {key.kid: key for key in self.live()}
        return next((live[kid] for kid in kids if kid in live), None)

    def _reload(self) -> None:
        try:
            keys = load(self._path)
        except ConfigError as exc:
            event(_LOG, logging.ERROR, "workload_keys.bad", why=exc.message)
            return
        if not keys:
            event(_LOG, logging.ERROR, "workload_keys.gone", path=self._path)
            return
        self._keys = keys
        event(_LOG, logging.INFO, "workload_keys.loaded", kids=[key.kid for key in keys])


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
