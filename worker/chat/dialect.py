"""How one model marks what is not plain text: its reasoning and its tool calls. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.chat.output import OutputParser
from worker.chat.reasoning import ReasoningStyle, detect_reasoning
from worker.chat.toolcalls.deltas import call_ids
from worker.chat.toolcalls.family import ToolFamily, detect_family
from worker.chat.toolcalls.forced import Tool, offered
from worker.chat.toolcalls.parser import ToolCallParser


@dataclass(frozen=True, slots=True)
class Dialect:
    """Told once a model, by its chat template. `reasoning` None: the model does not think aloud."""

    reasoning: ReasoningStyle | None
    family: ToolFamily

    @classmethod
    def of(cls, template: str, architecture: str = "") -> Dialect:
        return cls(detect_reasoning(template, architecture), detect_family(template, architecture))

    @property
    def markers(self) -> tuple[str, ...]:
        """Tokens that may be part of a reply's format, although many models have them as control tokens."""
        return (*(self.reasoning.markers if self.reasoning else ()), *self.family.markers)

    def markers_for(self, tools: Sequence[Tool]) -> tuple[str, ...]:
        """Those that `parser` has to see as text."""
        return self.markers if tools else self.reasoning.markers if self.reasoning else ()

    def parser(self, prompt: str, tools: Sequence[Tool], job_id: str, *, closed: bool = False) -> OutputParser | None:
        """For one reply to the rendered `prompt`; None when its text is all content as it stands.

        `closed`: what would call another tool than these is content.
        """
        splitter = self.reasoning.splitter(prompt) if self.reasoning else None
        ids = call_ids(job_id, short=self.family.short_ids)
        calls = ToolCallParser(self.family, offered(tools), ids, closed=closed) if tools else None
        return OutputParser(splitter, calls) if splitter or calls else None
