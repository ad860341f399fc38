"""Runs a launch in the foreground until it is told to stop: what `pendra up`, `worker` and `demo` share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ops.launch import Launch
from ops.narrator import Narrator, say
from ops.node_state import StateFile
from tasks import logs, tracing
from tasks.settings import Settings
from worker.children import Change
from worker.spawn import rotate
from worker.supervisor import Supervisor

LOG = "supervisor.log"
_START_ATTEMPTS = 3  # for a stack of our own; a fleet host keeps trying, its Redis may be away


def log_events(settings: Settings) -> None:
    """The supervisor's own log events go beside its children's logs: the terminal has the narrator's words."""
    path = settings.log_file or settings.home / "logs" / LOG
    rotate(path)
    logs.configure(settings.model_copy(update={"log_file": path}), "supervisor")


class Foreground:
    """`run` blocks on the main thread; `stop` may be called from any thread. The home must be locked."""

    def __init__(
        self,
        launch: Launch,
        *,
        on_ready: Callable[[], None] = lambda: None,
        start_attempts: int | None = _START_ATTEMPTS,
        greets: bool = True,
    ) -> None:
        self._scratch = launch.scratch
        self._state = StateFile(launch.home, launch.state, launch.specs)
        self._narrator = Narrator(launch, on_ready, greets=greets)
        self._supervisor = Supervisor(
            launch.specs, on_change=self._changed, on_tick=self._narrator.tick, start_attempts=start_attempts
        )

    def run(self) -> None:
        """Raises ChildFailedError when a part does not start."""
        if why := tracing.hindrance():
            say(f"no traces: {why}")
        try:
            self._supervisor.run()
        finally:
            self._state.remove()
            if self._scratch is not None:
                with contextlib.suppress(OSError):  # a killed Redis left its socket; the next start uses it again
                    self._scratch.rmdir()

    def stop(self) -> None:
        self._supervisor.stop()

    def _changed(self, change: Change) -> None:
        self._state.apply(change)
        self._narrator.changed(change)
