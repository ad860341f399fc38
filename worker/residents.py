"""The models in memory, and who uses them: the one place where that is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tasks.keep_alive import FOREVER
from worker.backends.base import Backend
from worker.engine.api import EngineStats
from worker.residency import Resident, age
from worker.store.catalogue import Entry


class Model(Backend, Protocol):
    """A backend as the runtime knows it. `context_length`: tokens a request may hold."""

    @property
    def context_length(self) -> int: ...
    def stats(self) -> EngineStats: ...


@dataclass(slots=True, eq=False)
class Loaded:
    """A model in memory. What changes belongs to `Residents`.

    `cpu`: it lives in main memory. `keep_s`: how long it stays idle as configured, `kept_s`: as last asked for.
    """

    entry: Entry
    model: Model
    size_bytes: int
    cpu: bool = True
    keep_s: float = FOREVER
    kept_s: float = FOREVER
    used: bool = False
    users: int = 0
    last_used: float = 0.0


class Residents:
    """Thread-safe; nothing here blocks. Closing a model that was taken out is the caller's. `clock`: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._loaded: dict[str, Loaded] = {}

    def add(self, loaded: Loaded) -> None:
        with self._lock:
            loaded.last_used = self.clock()
            loaded.kept_s = loaded.keep_s
            self._loaded[loaded.entry.id] = loaded

    def take(self, model_id: str) -> Loaded | None:
        """The model, in use until `give`."""
        with self._lock:
            loaded = self._loaded.get(model_id)
            if loaded is not None:
                loaded.users += 1
                loaded.used = True
            return loaded

    def give(self, loaded: Loaded, keep_s: float | None = None) -> None:
        """No longer in use. `keep_s`: how long it stays idle now; None = as it is configured."""
        with self._lock:
            loaded.users -= 1
            loaded.last_used = self.clock()
            loaded.kept_s = loaded.keep_s if keep_s is None else keep_s

    def remove(self, model_id: str, *, idle: bool = False) -> Loaded | None:
        """Nobody can take it any more. `idle`: only if nobody uses it now."""
        with self._lock:
            loaded = self._loaded.get(model_id)
            if loaded is None or (idle and loaded.users):
                return None
            return self._loaded.pop(model_id)

    def remove_ended(self, model_id: str) -> Loaded | None:
        """Like `remove`, only if it is still true that it has been idle for long enough."""
        with self._lock:
            loaded = self._loaded.get(model_id)
            if loaded is None or not age((_seen(loaded),), self.clock()).ended:
                return None
            return self._loaded.pop(model_id)

    def all(self) -> tuple[Loaded, ...]:
        with self._lock:
            return tuple(self._loaded.values())

    def snapshot(self, *, cpu: bool | None = None) -> tuple[Resident, ...]:
        """As the deciders see them; `cpu`: only those that live in main memory, or only those that do not."""
        with self._lock:
            return tuple(_seen(one) for one in self._loaded.values() if cpu is None or one.cpu is cpu)


def _seen(one: Loaded) -> Resident:
    return Resident(one.entry.id, one.size_bytes, one.users > 0, one.last_used, one.kept_s, one.used)
