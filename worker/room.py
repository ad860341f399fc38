"""Which models of the store this process could never load, for the bridge to know before it sends a job."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tasks.settings import Settings
from worker.capacity import demand_of, fits
from worker.options import Options, options_of
from worker.store.catalogue import Entry


class TooLarge:
    """`entry in too_large`. The device is asked once for each way of using it; any thread."""

    def __init__(self, settings: Settings, whole: Callable[[Options], int | None]) -> None:
        self._settings = settings
        self._whole = functools.cache(whole)
        self._known: dict[tuple[str, int], bool] = {}

    def __contains__(self, entry: Entry) -> bool:
        key = entry.id, entry.size_bytes
        if key not in self._known:
            self._known[key] = not self._fits(entry)
        return self._known[key]

    def _fits(self, entry: Entry) -> bool:
        options = options_of(self._settings, entry.id)
        return fits(demand_of(entry, options), self._whole(options), cpu=options.cpu)
