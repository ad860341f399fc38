"""One model's grammars. Its vocabulary is read for them when the first request needs it (0.1 to 0.5 s)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

from worker.engine.grammar import Constraint, GrammarVocab


class Tokens(Protocol):
    """What is needed of `worker.engine.vocab.Vocab`."""

    @property
    def handle(self) -> Any: ...

    eog: frozenset[int]


class Grammars:
    """Safe from any thread. `markers`: control tokens that grammars may write out as text."""

    def __init__(self, tokens: Tokens, markers: Sequence[str]) -> None:
        self._tokens = tokens
        self._markers = tuple(markers)
        self._lock = threading.Lock()
        self._vocab: GrammarVocab | None = None

    def constraint(self, grammar: str) -> Constraint:
        """For one reply, at its beginning. Raises BadRequestError `bad_grammar`."""
        with self._lock:
            if self._vocab is None:
                self._vocab = GrammarVocab.read(self._tokens.handle, eog=self._tokens.eog, markers=self._markers)
        return self._vocab.constraint(grammar)
