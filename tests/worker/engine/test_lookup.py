from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.lookup import Lookup


def test_what_followed_the_same_three_tokens_is_the_guess() -> None:
    assert Lookup().guess([1, 2, 3, 4, 5, 6, 1, 2, 3], 2) == [4, 5]
    assert Lookup().guess([1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3], 1) == [9]


def test_a_repetition_is_guessed_to_go_on() -> None:
    assert Lookup().guess([7, 7, 7, 7], 5) == [7] * 5
    assert Lookup().guess([1, 2, 1, 2, 1], 5) == [2, 1, 2, 1, 2]


def test_new_tokens_and_short_texts_have_no_guess() -> None:
    for tokens in ([], [1], [1, 1, 1], [1, 2, 3, 4]):
        assert Lookup().guess(tokens, 5) == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_growing_token_by_token_or_at_once_is_the_same(tokens: list[int], most: int) -> None:
    growing = Lookup()
    for end in range(len(tokens)):
        growing.guess(tokens[:end], most)
    guess = growing.guess(tokens, most)
    assert guess == Lookup().guess(tokens, most)
    places = [i for i in range(3, len(tokens)) if tokens[i - 3 : i] == tokens[-3:]]
    period = tokens[places[-1] :] if places else []
    assert guess == [period[i % len(period)] for i in range(most) if period]


def test_the_rate_follows_drafts_and_guesses_that_were_not_tried() -> None:
    right, wrong, untried = Lookup(), Lookup(), Lookup()
    for _ in range(20):
        right.note(4, 4)
        wrong.note(0, 4)
    tokens = [1, 2, 3, 4]
    for _ in range(100):
        untried.guess(tokens, 2)
        tokens.append(tokens[-4])
    assert right.rate > 0.95
    assert wrong.rate < 0.1
    assert untried.rate > 0.95
