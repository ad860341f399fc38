"""What leaves the session after an input: jobs that can go now, news for the API, all that is to be done. Pure."""

from __future__ import annotations

from bridge.adverts import Adverts
from bridge.effects import Effect
from bridge.intake import Intake
from bridge.ledger import Ledger
from bridge.watch import Watch


class Outlet:
    """Hands out the ledger's effects. Its methods are how each input of the session ends."""

    def __init__(self, ledger: Ledger, watch: Watch, intake: Intake) -> None:
        self._ledger = ledger
        self._watch = watch
        self._intake = intake
        self._adverts = Adverts()

    def flush(self, now: float, *, release: bool = True) -> list[Effect]:
        """Release what can go, tell the API what changed, hand the effects out. `release`: something may go."""
        ledger = self._ledger
        if release and not self._watch.redis_down and ledger.scheduler.depth:
            for go in ledger.scheduler.release(now):
                ledger.go(go)
        if ledger.flow.has_room:
            for text in self._adverts.news(
                ledger.fleet,
                waiting=ledger.scheduler.depth,
                draining=self._intake.draining,
                now=now,
                pace=ledger.pace.rates,
            ):
                ledger.send(text)
        return self.out()

    def out(self) -> list[Effect]:
        """Hand the effects out, for inputs that can neither free a slot nor be news."""
        for text in self._ledger.flow.catch_up():
            self._ledger.send(text)
        effects, self._ledger.effects = self._ledger.effects, []
        return effects

    def relinked(self) -> None:
        """A new link: the API has heard of nothing yet."""
        self._adverts.forget()
