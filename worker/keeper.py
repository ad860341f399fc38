"""Unloads models that have been idle for as long as they are kept (`keep_alive`)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tasks import keep_alive
from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from tasks.logs import event, where
from worker.residency import age
from worker.residents import Loaded, Residents

_LOG = logging.getLogger("pendra.runtime")


class Keeper:
    """`unload` frees a model that was taken out of the residents, on the keeper's thread."""

    def __init__(self, residents: Residents, unload: Callable[[Loaded], None]) -> None:
        self._residents = residents
        self._unload = unload
        self._poked = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Unload nothing more. Blocks until what is being unloaded is gone; idempotent."""
        self._stopped = True
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join()

    def poke(self) -> None:
        """A model was loaded or given back. Any thread; returns at once."""
        self._poked.set()

    def sweep(self) -> float | None:
        """Unload what has been idle for long enough; seconds until the next one, None = nothing is due by itself."""
        clock = self._residents.clock
        for model_id in age(self._residents.snapshot(), clock()).ended:
            loaded = self._residents.remove_ended(model_id)
            if loaded is not None:
                self._unload(loaded)
        return age(self._residents.snapshot(), clock()).next_s

    def _run(self) -> None:
        while not self._stopped:
            self._poked.wait(self._swept())
            self._poked.clear()  # what came before is seen by the sweep that follows

    def _swept(self) -> float | None:
        try:
            return self.sweep()
        except Exception as exc:  # noqa: BLE001  # the others are still to be unloaded in their time
            event(_LOG, logging.ERROR, "runtime.keeper_failed", error=type(exc).__name__, at=where(exc))
            return 1.0


def asked_keep_alive(body: JsonObject) -> float | None:
    """A request's own `keep_alive`, in seconds; None = it has none. Raises BadRequestError."""
    try:
        return keep_alive.optional(body.get("keep_alive"))
    except ValueError:
        raise BadRequestError(f"keep_alive: allowed: {keep_alive.ALLOWED}", param="keep_alive") from None
