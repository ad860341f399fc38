"""What became of jobs, in counts and histograms. Pure: hooks in, numbers out.

A request may name any model, so only names that a worker of the fleet has ever served become label values; all others
are `other`. Tenants (API keys) are no labels at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.jobs import JobRecord, Outcome
from bridge.metrics.bounded import OTHER, Bounded
from bridge.metrics.histogram import BETWEEN_TOKENS_S, FIRST_TOKEN_S, JOB_S, WAIT_S, Histogram
from tasks.contract import Finished

OK = "ok"
MOST_MODELS = 100
MOST_PAIRS = 1000  # of model and worker, or of anything else that is counted by several labels

Key = tuple[str, ...]


@dataclass(slots=True)
class Counts:
    """All numbers since the process began. Keys are label values, in the order that the comment says."""

    jobs: Counter[Key] = field(default_factory=Counter)  # model, kind, outcome, code
    tokens: Counter[Key] = field(default_factory=Counter)  # model, worker, type
    wasted: Counter[Key] = field(default_factory=Counter)  # model, outcome
    failovers: Counter[Key] = field(default_factory=Counter)  # model, worker, code
    installs: Counter[Key] = field(default_factory=Counter)  # node, code
    wait: dict[str, Histogram] = field(default_factory=dict)
    first_token: dict[str, Histogram] = field(default_factory=dict)
    between_tokens: dict[str, Histogram] = field(default_factory=dict)
    duration: dict[str, Histogram] = field(default_factory=dict)

    def copy(self) -> Counts:
        return Counts(
            Counter(self.jobs),
            Counter(self.tokens),
            Counter(self.wasted),
            Counter(self.failovers),
            Counter(self.installs),
            *({model: one.copy() for model, one in part.items()} for part in self._histograms()),
        )

    def _histograms(self) -> tuple[dict[str, Histogram], ...]:
        return self.wait, self.first_token, self.between_tokens, self.duration


@dataclass(slots=True)
class _Open:
    """A job that is watched. `said`: when its last token came; `between`: where the gaps are counted.

    `inherited`: a predecessor saw the beginning of its text.
    """

    said: float | None = None
    between: Histogram | None = None
    inherited: bool | None = None
    waited: bool = False
    tokens: int = 0


class Tally:
    """Implements `bridge.hooks.Hooks`; event loop only. `served`, set by the owner: does a worker have the model?"""

    def __init__(self) -> None:
        self.served: Callable[[str], bool] = lambda _: False
        self.counts = Counts()
        self._open: dict[str, _Open] = {}
        self._models = Bounded(MOST_MODELS)
        self._jobs, self._tokens, self._failovers = Bounded(MOST_PAIRS), Bounded(MOST_PAIRS), Bounded(MOST_PAIRS)
        self._installs = Bounded(MOST_PAIRS)

    # ---------------------------------------------------------------- Hooks

    def arrived(self, record: JobRecord, now: float) -> None:  # noqa: ARG002  # the hook's
        self._open[record.id] = _Open()

    def released(self, record: JobRecord) -> None: ...

    def began(self, record: JobRecord, now: float) -> None:
        """Later attempts do not count: they wait for other reasons, and `failovers` tells of them."""
        one = self._open.get(record.id)
        if one is not None and not one.waited:
            one.waited = True
            if record.attempt == 0:
                _of(self.counts.wait, self.model(record.frame.model), WAIT_S).observe(now - record.arrived)

    def said(self, record: JobRecord, tokens: int, now: float) -> None:
        one = self._open.get(record.id)
        if one is None:
            return
        if one.inherited is None:
            one.inherited = record.streamed
        if not tokens:
            return
        if one.said is not None and one.between is not None:
            one.between.observe((now - one.said) / tokens, tokens)
        else:
            one.between = self._began_to_say(record, one, now)
        one.said = now
        one.tokens += tokens

    def lost(self, record: JobRecord, code: str) -> None:
        key = self._failovers(self.model(record.frame.model), record.worker_id, code)
        self.counts.failovers[key] += 1

    def finished(self, record: JobRecord, end: Finished) -> None:
        pair = self._tokens(self.model(record.frame.model), record.worker_id)
        usage = end.usage
        self.counts.tokens[(*pair, "prompt")] += usage.prompt_tokens
        self.counts.tokens[(*pair, "cached")] += usage.cached_tokens
        self.counts.tokens[(*pair, "completion")] += usage.completion_tokens
        self.counts.tokens[(*pair, "reasoning")] += usage.reasoning_tokens

    def ended(self, record: JobRecord, code: str, now: float) -> None:
        one = self._open.pop(record.id, None)
        model, outcome = self.model(record.frame.model), str(record.outcome)
        self.counts.jobs[self._jobs(model, str(record.frame.kind), outcome, code or OK)] += 1
        if record.outcome is Outcome.FINISHED:
            _of(self.counts.duration, model, JOB_S).observe(now - record.arrived)
        elif one is not None and one.tokens:
            self.counts.wasted[model, outcome] += one.tokens

    def install_ended(self, node: str, code: str) -> None:
        self.counts.installs[self._installs(node, code or OK)] += 1

    # ---------------------------------------------------------------- parts

    def _began_to_say(self, record: JobRecord, one: _Open, now: float) -> Histogram:
        model = self.model(record.frame.model)
        if not one.inherited:
            _of(self.counts.first_token, model, FIRST_TOKEN_S).observe(now - record.arrived)
        return _of(self.counts.between_tokens, model, BETWEEN_TOKENS_S)

    def model(self, name: str) -> str:
        """The label value of a model's name."""
        return self._models(name)[0] if (name,) in self._models or self.served(name) else OTHER


def _of(part: dict[str, Histogram], model: str, bounds: tuple[float, ...]) -> Histogram:
    found = part.get(model)
    if found is None:
        found = part[model] = Histogram(bounds)
    return found
