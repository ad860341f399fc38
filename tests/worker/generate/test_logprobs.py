"""Log probabilities as OpenAI writes them, in the chat and in completions."""

from __future__ import annotations

import math

from openai.types.chat.chat_completion import ChoiceLogprobs
from openai.types.completion_choice import Logprobs

from worker.engine.api import TokenLogprob
from worker.generate.logprobs import LegacyLogprobs, chat_logprobs, joined

PIECES = {1: b"He", 2: b"\xc3", 3: b"\xbc", 4: b"<s>"}
SCORES = [
    TokenLogprob(1, -0.5, ((1, -0.5), (4, -1.5))),
    TokenLogprob(2, -math.inf),
    TokenLogprob(3, -0.1, ((4, 0.0),)),
]


def test_the_chats_shape():
    made = chat_logprobs(SCORES, PIECES.__getitem__)
    first, half, _ = ChoiceLogprobs.model_validate(made, strict=True).content or ()
    assert (first.token, first.logprob, first.bytes) == ("He", -0.5, [72, 101])
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("He", -0.5), ("<s>", -1.5)]
    assert (half.token, half.logprob, half.bytes) == ("\ufffd", -9999.0, [0xC3])


def test_the_legacy_shape_counts_characters():
    legacy = LegacyLogprobs(PIECES.__getitem__, offset=10)
    first, rest = legacy.take(SCORES[:1]), legacy.take([*SCORES[1:], TokenLogprob(1, -2.0)])
    Logprobs.model_validate(first)
    assert (first["tokens"], first["text_offset"]) == (["He"], [10])
    assert first["top_logprobs"] == [{"He": -0.5, "<s>": -1.5}]
    assert rest["text_offset"] == [12, 12, 13]
    assert rest["top_logprobs"] == [None, {"<s>": 0.0, "\ufffd": -0.1}, None]


def test_a_prompts_tokens_may_have_no_score_and_lose_a_blank_that_was_not_sent():
    legacy = LegacyLogprobs({**PIECES, 5: b" He"}.__getitem__)
    made = legacy.prompt((5, 1), (None, SCORES[0]), drop=1)
    assert (made["tokens"], made["text_offset"]) == (["He", "He"], [0, 2])
    assert (made["token_logprobs"], made["top_logprobs"]) == ([None, -0.5], [None, {"He": -0.5, "<s>": -1.5}])
    both = joined(made, legacy.take(SCORES[:1]))
    assert both["text_offset"] == [0, 2, 4]


def test_what_was_delivered_before_counts():
    legacy = LegacyLogprobs(PIECES.__getitem__)
    legacy.skip([1, 2, 3])
    assert legacy.take(SCORES[:1])["text_offset"] == [3]
