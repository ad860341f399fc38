"""What chat completions and legacy completions have in common: choices, chunks, the end, the usage. Pure.

A stream is: what opens it, pieces of the choices' text, an end for each choice, and (always) a chunk with empty
`choices` and the usage. Everything is ASCII-only JSON, so that no line separator of Unicode can break a client's
parsing of lines.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.contract import Job, JsonObject, Notice, Usage
from worker.chat.notices import NO_PROMISE, Promise, notice
from worker.engine.api import StepOutput
from worker.generate.choice import Choice
from worker.generate.resumption import END, pack


@dataclass(frozen=True, slots=True)
class Piece:
    """The data of one event, and what it delivers: token ids (`worker.generate.resumption` with several choices)."""

    data: str = field(repr=False)
    tokens: tuple[int, ...] = field(default=(), repr=False)


class TextReply(ABC):
    """The reply to one job. Not thread-safe: outputs come in one after the other.

    `pieces` turns one output of the engine into the chunks to send now (none unless the job streams); `whole` is the
    reply of a job that does not stream, once its last output was taken. One output makes at most one piece of text,
    so that its tokens and all it shows are delivered together.
    """

    def __init__(
        self, job: Job, choices: Sequence[Choice], head: JsonObject, *, promise: Promise = NO_PROMISE
    ) -> None:
        self._stream = job.stream
        self._head = head
        self._choices = choices
        self._promise = promise
        self._opened = job.resume is not None  # what was delivered before began with it

    def pieces(self, output: StepOutput) -> Iterable[Piece]:
        """What this output adds to a stream. The last output of a choice must be a good end."""
        choice = self._choices[output.index]
        choice.take(output)
        if not self._stream:
            return
        if not self._opened:
            self._opened = True
            for first in self._choices:
                yield from self._opening(first)
        if choice.parts:
            yield Piece(self._said(choice), self._delivered(choice))
        if output.finish_reason is not None and not choice.told:
            yield Piece(self._ended(choice), self._delivered(choice, end=True))
        if output.usage is not None:
            yield Piece(self._chunk([], usage=self.usage(output.usage).openai()))

    def whole(self, usage: Usage) -> str:
        """The complete reply of a job that does not stream. `usage` as the engine gave it."""
        choices = [{**self._complete(choice), "index": at} for at, choice in enumerate(self._choices)]
        return as_json({**self._head, "choices": choices, "usage": self.usage(usage).openai()})

    def usage(self, usage: Usage) -> Usage:
        """The engine's count, and what only the reply's text tells."""
        reasoned = sum(choice.reasoning_tokens for choice in self._choices)
        return usage.model_copy(update={"reasoning_tokens": reasoned}) if reasoned else usage

    def notice(self) -> Notice | None:
        """What the client should know about a reply that ended well."""
        told = (notice(c.reason, self._promise, reasoning=c.reasoning) for c in self._choices if c.reason)
        return next((one for one in told if one is not None), None)

    @abstractmethod
    def _opening(self, choice: Choice) -> Iterator[Piece]:
        """What comes before the choice's first text."""

    @abstractmethod
    def _said(self, choice: Choice) -> str:
        """A chunk of what was said and not shown yet."""

    @abstractmethod
    def _ended(self, choice: Choice) -> str:
        """The chunk with the choice's finish reason."""

    @abstractmethod
    def _complete(self, choice: Choice) -> JsonObject:
        """The whole choice."""

    def _delivered(self, choice: Choice, *, end: bool = False) -> tuple[int, ...]:
        tokens = choice.take_pending()
        if len(self._choices) == 1:
            return tokens
        return pack(choice.index, (*tokens, END) if end else tokens)

    def _chunk(self, choices: list[JsonObject], **more: Any) -> str:
        return as_json({**self._head, "choices": choices, **more})


def as_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
