"""A bridge that died, and its successor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bridge.effects import Acquire
from bridge.entries import Found
from tasks.contract import Event
from tests.bridge.builders import Driven, batch, claimed, worker


@dataclass
class Succession:
    """A bridge that dies at some point; `stream` is what is in Redis of its workers' events."""

    old: Driven
    stream: list[list[Event]] = field(default_factory=list)

    def publish(self, *events: Event, unread: bool = False) -> None:
        self.stream.append(list(events))
        if not unread:
            self.old.events(*events)

    def successor(self, *fleet: Any, holders: dict[str, str] | None = None, trimmed: int = 0) -> Driven:
        """A new session that has adopted everything. `holders`: jobs that hold a slot, by worker."""
        new = Driven(*fleet, linked=False)
        new.now = self.old.now
        left = [Found(entry, (holders or {}).get(entry.id, "")) for entry in self.old.registry.values()]
        new.registry = dict(self.old.registry)
        new.do(new.session.adopt(left, new.now))
        new.session.heal_started()
        for events in self.stream[trimmed:]:
            new.do(new.session.events(batch(*events), new.now))
        new.do(new.session.healed(new.now, full=True))
        new.do(new.session.adopted(new.now))
        return new


def acquires(driven: Driven) -> list[Acquire]:
    return [effect for effect in driven.effects if isinstance(effect, Acquire)]


def running(*fleet: Any) -> Succession:
    made = Succession(Driven(*(fleet or (worker(),))))
    made.old.start()
    made.stream.append([claimed()])
    return made
