"""A prompt's tokens in the legacy shape, as its text was sent."""

from __future__ import annotations

from worker.completion.echo import Echo, echoed_logprobs
from worker.engine.api import TokenLogprob

PIECES = {1: b"<s>", 2: b" The", 3: b" sea"}
SCORES = (TokenLogprob(2, -1.0), TokenLogprob(3, -2.0))


def test_a_bos_that_was_not_sent_is_not_shown_but_comes_before_the_first() -> None:
    made = echoed_logprobs(Echo("The sea", (2, 3), before=1), SCORES, PIECES.__getitem__)
    assert (made["tokens"], made["token_logprobs"]) == (["The", " sea"], [-1.0, -2.0])
    assert made["text_offset"] == [0, 3]


def test_what_was_sent_is_shown_whole() -> None:
    made = echoed_logprobs(Echo("<s> The sea", (1, 2, 3)), SCORES, PIECES.__getitem__)
    assert (made["tokens"], made["token_logprobs"]) == (["<s>", " The", " sea"], [None, -1.0, -2.0])


def test_prompts_that_are_not_scored() -> None:
    assert echoed_logprobs(Echo("<s>", (1,)), (), PIECES.__getitem__)["token_logprobs"] == [None]
    assert echoed_logprobs(Echo("", (), before=1), (), PIECES.__getitem__)["tokens"] == []
