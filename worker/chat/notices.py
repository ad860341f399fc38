"""What a reply that succeeded should still be told about: Pendra's notice codes, in words. Pure."""

from __future__ import annotations

from tasks.contract import Notice

TRUNCATED_REASONING = Notice(
    code="truncated_during_reasoning",
    message="The token budget ended while the model was still reasoning, so there is no answer yet. "
    "Raise max_tokens, or turn reasoning off with enable_thinking: false where the model can.",
)
