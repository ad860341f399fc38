"""What a reply that succeeded should still be told about: Pendra's notice codes, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contract import Notice
from worker.engine.api import FinishReason

TRUNCATED_REASONING = Notice(
    code="truncated_during_reasoning",
    message="The token budget ended while the model was still reasoning, so there is no answer yet. "
    "Raise max_tokens, or turn reasoning off with enable_thinking: false where the model can.",
)
TRUNCATED_JSON = Notice(
    code="truncated_during_structured_output",
    message="The token budget ended inside the JSON, so it is not complete. Raise max_tokens.",
)
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Promise:
    """What a reply was asked to be: one JSON value; and what of a `strict` schema the grammar cannot hold."""

    json: bool = False
    not_enforced: tuple[str, ...] = ()


NO_PROMISE = Promise()


def notice(reason: FinishReason, promise: Promise, *, reasoning: bool = False) -> Notice | None:
    """The one that matters most for a reply that ended for `reason`, in the middle of its `reasoning` or not."""
    if reason is FinishReason.LENGTH and reasoning:
        return TRUNCATED_REASONING
    if reason is FinishReason.LENGTH and promise.json:
        return TRUNCATED_JSON
    return _not_enforced(promise.not_enforced) if promise.not_enforced else None


def _not_enforced(pointers: tuple[str, ...]) -> Notice:
    more = f" and {len(pointers) - _MOST_NAMED} more" if len(pointers) > _MOST_NAMED else ""
    named = ", ".join(pointers[:_MOST_NAMED])
    message = f"These parts of the schema are not enforced: {named}{more}. Validate the reply."
    return Notice(code="strict_schema_not_enforced", message=message)
