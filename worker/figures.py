"""What this process's heartbeat says for the people who watch: its engines in figures, and a count of its loads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import fields

from tasks.errors import PendraError
from tasks.figures import LOADED, EngineFigures, LoadFigures
from worker.engine.api import EngineStats

_STATS = tuple(field.name for field in fields(EngineStats) if field.name in EngineFigures.model_fields)


def engine_figures(stats: Mapping[str, EngineStats]) -> tuple[EngineFigures, ...]:
    """One row a model in memory. Pure."""
    return tuple(
        EngineFigures(model=model, **{name: getattr(one, name) for name in _STATS}) for model, one in stats.items()
    )


class LoadCounts:
    """How loads ended, since this process began. Thread-safe; nothing here blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], tuple[int, float]] = {}

    def ended(self, model: str, error: PendraError | None, seconds: float) -> None:
        """A load ended well (`error` None) or with this error."""
        key = model, LOADED if error is None else error.code
        with self._lock:
            count, total = self._rows.get(key, (0, 0.0))
            self._rows[key] = count + 1, total + seconds

    def figures(self) -> tuple[LoadFigures, ...]:
        with self._lock:
            rows = sorted(self._rows.items())
        return tuple(
            LoadFigures(model=model, outcome=outcome, count=count, seconds=round(seconds, 3))
            for (model, outcome), (count, seconds) in rows
        )
