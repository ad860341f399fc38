"""The choices of one request: one prompt, one usage, one end."""

from __future__ import annotations

from tasks.contract import Timing, Usage
from worker.engine.api import GenerationRequest
from worker.engine.sequence import Sequence, State


class Group:
    """Written by the engine thread only.

    The first choice evaluates the prompt; the others are held until that is done, to take it from there.
    """

    __slots__ = ("_held", "_left", "choices")

    def __init__(self, request: GenerationRequest, *, ctx_limit: int, now: float) -> None:
        self.choices = [Sequence(request, index=i, ctx_limit=ctx_limit, now=now) for i in range(request.n)]
        self._held = self.choices[1:]
        self._left = len(self.choices)
        self.first.leads = bool(self._held)
        if request.masker is not None:
            for seq in self._held:
                seq.masker = request.masker.clone()
            self.first.masker = request.masker

    @property
    def first(self) -> Sequence:
        return self.choices[0]

    @property
    def open(self) -> list[Sequence]:
        """The choices that have not ended, those that have not begun before the others."""
        return [seq for seq in reversed(self.choices) if seq.state is not State.FINISHED]

    def take_held(self) -> list[Sequence]:
        """Nobody is held any more."""
        held, self._held = self._held, []
        return held

    def drop_held(self, seq: Sequence) -> bool:
        """A choice ends while it is held; False when it is not held."""
        if seq not in self._held:
            return False
        self._held.remove(seq)
        seq.move(State.FINISHED)
        return True

    def end(self, seq: Sequence) -> bool:
        """A choice has had its end; True when it was the last."""
        if seq.state is not State.FINISHED:
            raise AssertionError(f"sequence {seq.id} has not left the scheduler")
        self._left -= 1
        return not self._left

    def usage(self) -> Usage:
        """The prompt counts once."""
        first = self.first
        return Usage(
            prompt_tokens=first.n_prompt,
            completion_tokens=sum(seq.n_completion for seq in self.choices),
            cached_tokens=min(first.n_cached, first.n_prompt),
        )

    def timing(self) -> Timing:
        """Times of the first choice; tokens a second of all together."""
        first = self.first
        return Timing(
            ttft_ms=_ms(first.admitted_at, first.started_at),
            tokens_per_second=self._rate(),
            worker_queue_wait_ms=_ms(first.submitted_at, first.admitted_at),
        )

    def _rate(self) -> float | None:
        started = min((seq.started_at for seq in self.choices if seq.started_at is not None), default=None)
        last = max((seq.last_at for seq in self.choices if seq.last_at is not None), default=None)
        made = sum(max(0, seq.n_completion - seq.n_resumed) for seq in self.choices)
        if made <= 1 or started is None or last is None or last <= started:
            return None
        return round((made - 1) / (last - started), 2)


def _ms(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else round((until - since) * 1000, 3)
