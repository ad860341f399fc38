"""A token is read back exactly, and half a one is told from a wrong one without being quoted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.join.errors import JoinError
from ops.join.token import PREFIX, Token, parse

TOKEN = Token("gpu-01.example", 7443, 1_900_000_000, bytes(range(32)), bytes(reversed(range(32))))


@given(
    host=st.from_regex(r"[a-z0-9][a-z0-9.:-]{0,60}", fullmatch=True),
    port=st.integers(1, 65535),
    expires=st.integers(0, 2**32 - 1),
    fingerprint=st.binary(min_size=32, max_size=32),
    secret=st.binary(min_size=32, max_size=32),
)
def test_what_is_printed_reads_back(host: str, port: int, expires: int, fingerprint: bytes, secret: bytes) -> None:
    token = Token(host, port, expires, fingerprint, secret)
    assert parse(token.text) == token


def test_a_line_that_a_terminal_broke_is_whole_again() -> None:
    text = TOKEN.text
    assert parse(f" {text[:40]}\n  {text[40:]}\n") == TOKEN


@given(at=st.integers(len(PREFIX), len(TOKEN.text) - 1), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_letter_is_noticed(at: int, letter: str) -> None:
    text = TOKEN.text
    changed = text[:at] + letter + text[at + 1 :]
    if changed == text:
        return
    if at == len(text) - 1:  # its last bits say nothing
        return
    with pytest.raises(JoinError, match="missing or changed"):
        parse(changed)


@pytest.mark.parametrize("text", ["", "hello", PREFIX, TOKEN.text[:-1], TOKEN.text[:60], PREFIX + "!!!", "x" * 5000])
def test_what_is_no_token_says_so_and_is_not_quoted(text: str) -> None:
    with pytest.raises(JoinError, match="pendra fleet token") as refused:
        parse(text)
    assert refused.value.code == "join_token_invalid"
    assert text in {"", PREFIX} or text not in str(refused.value)


def test_no_repr_shows_the_secret() -> None:
    assert "secret" not in repr(TOKEN)
