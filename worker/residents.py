"""The models in memory, and who uses them: the one place where that is counted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from worker.backends.base import Backend
from worker.engine.api import EngineStats
from worker.residency import Resident
from worker.store.catalogue import Entry


class Model(Backend, Protocol):
    """A backend as the runtime knows it. `context_length`: tokens a request may hold."""

    @property
    def context_length(self) -> int: ...
    def stats(self) -> EngineStats: ...


@dataclass(slots=True, eq=False)
class Loaded:
    """A model in memory. `users` and `last_used` belong to `Residents`."""

    entry: Entry
    model: Model
    size_bytes: int
    users: int = 0
    last_used: float = 0.0


class Residents:
    """Thread-safe; nothing here blocks. Closing a model that was taken out is the caller's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[str, Loaded] = {}

    def add(self, loaded: Loaded) -> None:
        with self._lock:
            loaded.last_used = time.monotonic()
            self._loaded[loaded.entry.id] = loaded

    def take(self, model_id: str) -> Loaded | None:
        """The model, in use until `give`."""
        with self._lock:
            loaded = self._loaded.get(model_id)
            if loaded is not None:
                loaded.users += 1
            return loaded

    def give(self, loaded: Loaded) -> None:
        with self._lock:
            loaded.users -= 1
            loaded.last_used = time.monotonic()

    def remove(self, model_id: str, *, idle: bool = False) -> Loaded | None:
        """Nobody can take it any more. `idle`: only if nobody uses it now."""
        with self._lock:
            loaded = self._loaded.get(model_id)
            if loaded is None or (idle and loaded.users):
                return None
            return self._loaded.pop(model_id)

    def all(self) -> tuple[Loaded, ...]:
        with self._lock:
            return tuple(self._loaded.values())

    def snapshot(self) -> tuple[Resident, ...]:
        """As the decider sees them."""
        with self._lock:
            return tuple(
                Resident(one.entry.id, one.size_bytes, one.users > 0, one.last_used) for one in self._loaded.values()
            )
