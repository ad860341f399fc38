"""What others may know of the session's state. Nothing here changes it, or hands out a part of it that changes."""

from __future__ import annotations

from bridge.installs import Installs
from bridge.intake import Intake
from bridge.ledger import Ledger
from bridge.metrics.picture import Picture, picture
from bridge.overview import overview
from bridge.watch import Watch
from tasks.contract import Overview


class Readings:
    """For the thread of the session, like all of it. Times are monotonic seconds."""

    def __init__(self, ledger: Ledger, watch: Watch, intake: Intake, installs: Installs) -> None:
        self._ledger = ledger
        self._watch = watch
        self._intake = intake
        self._installs = installs

    def overview(self, now: float) -> Overview:
        """The open jobs, for people."""
        return overview(self._ledger, now)

    def picture(self, now: float) -> Picture:
        """The state, for metrics."""
        return picture(
            self._ledger,
            now,
            redis_down=self._watch.redis_down,
            draining=self._intake.draining,
            installs=len(self._installs.running),
        )

    def sha256_of(self, worker_id: str, model: str) -> str | None:
        """Of the file that this worker runs the model from, as far as its store knows."""
        view = self._ledger.fleet.get(worker_id)
        row = view.rows.get(model) if view else None
        return row.sha256 if row else None

    def serves(self, model: str) -> bool:
        """Whether some worker of the fleet has it now."""
        return any(model in view.installed for view in self._ledger.fleet)
