"""A grammar before it is joined with what may stand in front of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from llguidance import LLMatcher


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a reply must look like, as llguidance Lark rules that define the rule `body`.

    `not_enforced`: JSON pointers into the caller's schema of what the grammar does not hold (the notice
    `strict_schema_not_enforced`). `json`: a whole reply is one JSON value, so one that is cut off is not (the notice
    `truncated_during_structured_output`).
    """

    rules: str = field(repr=False)
    not_enforced: tuple[str, ...] = ()
    json: bool = True

    def grammar(self, prelude: str = "") -> str:
        """Text for `worker.engine.grammar.GrammarVocab.constraint`.

        `prelude`: Lark rules that define a rule `prelude` for what comes before, usually the reasoning
        (`worker.chat.reasoning`); "" = nothing may.
        """
        start = "start: prelude body" if prelude else "start: body"
        return f"%llguidance {{}}\n{start}\n{prelude}\n{self.rules}"


def problem_of(lark: str) -> str | None:
    """Why llguidance does not take a grammar, in one line; None = it does."""
    failed, messages = LLMatcher.validate_grammar_with_warnings(lark)
    return _one_line(messages[0]) if failed else None


def _one_line(message: str) -> str:
    """The last line that says something: regex errors come with a drawing of the pattern before it."""
    lines = [line.strip() for line in message.partition("<state>")[0].splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["unknown problem"])[0][:300]
