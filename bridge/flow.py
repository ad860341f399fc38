"""How much goes to the link at a time. Pure.

The link is given at most a window; what a slow API does not take stays in the outboxes of the jobs, which are
bounded, and goes out in turns when there is room again. A reconnect is the same: what the API has not got waits in
the outboxes, and catches up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from operator import attrgetter

from bridge import replies
from bridge.jobs import JobRecord
from bridge.outbox import Outbox, Sent

WINDOW_CHARS = 256 * 1024  # less than one outbox keeps: what breaks with a link can be said again
TURN_CHARS = 16 * 1024  # of one job, before the next one has its turn
KEPT_CHARS = 256 * 1024 * 1024  # in the outboxes of all open jobs


class Flow:
    """Owned by the ledger. `on_way`: characters the link has been given and has not written yet."""

    def __init__(self) -> None:
        self.linked = False
        self.on_way = 0
        self._behind: dict[str, JobRecord] = {}  # in order of their turns

    @property
    def has_room(self) -> bool:
        return self.linked and self.on_way < WINDOW_CHARS

    def passes(self, outbox: Outbox) -> bool:
        """Whether the job's next frame may go to the link at once."""
        return self.linked and not outbox.unsent and self.on_way < WINDOW_CHARS

    def up(self) -> None:
        """A new link, with nothing on its way."""
        self.linked = True

    def down(self) -> None:
        """Who gets what is decided anew when the next link is up."""
        self.linked = False
        self.on_way = 0
        self._behind.clear()

    def given(self, text: str) -> None:
        self.on_way += len(text)

    def written(self, chars: int) -> None:
        self.on_way = max(0, self.on_way - chars)

    def wait(self, record: JobRecord) -> None:
        """Some of the job's frames wait for room."""
        if self.linked:
            self._behind.setdefault(record.id, record)

    def catch_up(self) -> Iterator[str]:
        """Frames of what waits, as long as half of the window is free. The caller gives each to the link."""
        while self._behind and self.linked and self.on_way <= WINDOW_CHARS // 2:
            yield from replies.replayed(self._turns(WINDOW_CHARS // 4))

    def _turns(self, chars: int) -> list[Sent]:
        items: list[Sent] = []
        while self._behind and chars > 0:
            record = self._behind.pop(next(iter(self._behind)))
            taken = record.outbox.take(TURN_CHARS)
            if record.outbox.unsent:
                self._behind[record.id] = record
            chars -= sum(len(text) for _, text, _ in taken)
            items += taken
        return items


def to_give_up(records: Collection[JobRecord], limit: int) -> list[JobRecord]:
    """The jobs with the largest outboxes, so many that the others fit `limit`. Pure."""
    total = sum(record.outbox.chars for record in records)
    ranked = sorted(records, key=attrgetter("outbox.chars")) if total > limit else []
    given_up: list[JobRecord] = []
    while total > limit:
        given_up.append(ranked.pop())
        total -= given_up[-1].outbox.chars
    return given_up
