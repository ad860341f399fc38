"""Who wants to hear what becomes of jobs and installs. The session calls these and never waits for an answer.

Every call is on the event loop, must return at once and must not raise. Nothing of a job's content is passed but its
record, of which only ids, model, kind and times may be kept. `record.trace` is theirs to set, all else only to read.
"""

from __future__ import annotations

from typing import Protocol

from bridge.jobs import JobRecord
from tasks.contract import Finished


class Hooks(Protocol):
    """Times are the session's: monotonic seconds."""

    def arrived(self, record: JobRecord, now: float) -> None:
        """A job is known from now on; it may be refused at once, which is an end like any other."""

    def released(self, record: JobRecord) -> None:
        """It waits no longer: an attempt of it looks for a slot. It may be told again of an attempt that got none."""

    def began(self, record: JobRecord, now: float) -> None:
        """A worker claimed an attempt of it."""

    def said(self, record: JobRecord, tokens: int, now: float) -> None:
        """The next piece of a stream: so many tokens (1 where nobody can count them). Thousands a second."""

    def lost(self, record: JobRecord, code: str) -> None:
        """A worker lost the attempt, or gave it back (`draining`). The job may go on elsewhere."""

    def finished(self, record: JobRecord, end: Finished) -> None:
        """The whole reply is there; `ended` follows."""

    def ended(self, record: JobRecord, code: str, now: float) -> None:
        """The job is over: `record.outcome`, and the error's code ("" = none)."""

    def install_ended(self, node: str, code: str) -> None:
        """A host is done with an install or uninstall; `code` as in `ended`."""


class NoHooks:
    """Nobody listens."""

    def arrived(self, record: JobRecord, now: float) -> None: ...
    def released(self, record: JobRecord) -> None: ...
    def began(self, record: JobRecord, now: float) -> None: ...
    def said(self, record: JobRecord, tokens: int, now: float) -> None: ...
    def lost(self, record: JobRecord, code: str) -> None: ...
    def finished(self, record: JobRecord, end: Finished) -> None: ...
    def ended(self, record: JobRecord, code: str, now: float) -> None: ...
    def install_ended(self, node: str, code: str) -> None: ...


class Together:
    """Several listeners as one."""

    def __init__(self, *hooks: Hooks) -> None:
        self._hooks = hooks

    def arrived(self, record: JobRecord, now: float) -> None:
        for one in self._hooks:
            one.arrived(record, now)

    def released(self, record: JobRecord) -> None:
        for one in self._hooks:
            one.released(record)

    def began(self, record: JobRecord, now: float) -> None:
        for one in self._hooks:
            one.began(record, now)

    def said(self, record: JobRecord, tokens: int, now: float) -> None:
        for one in self._hooks:
            one.said(record, tokens, now)

    def lost(self, record: JobRecord, code: str) -> None:
        for one in self._hooks:
            one.lost(record, code)

    def finished(self, record: JobRecord, end: Finished) -> None:
        for one in self._hooks:
            one.finished(record, end)

    def ended(self, record: JobRecord, code: str, now: float) -> None:
        for one in self._hooks:
            one.ended(record, code, now)

    def install_ended(self, node: str, code: str) -> None:
        for one in self._hooks:
            one.install_ended(node, code)
