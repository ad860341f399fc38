from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.text import TextAssembler


def feed(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[str, bool]:
    text = TextAssembler(stops)
    shown = "".join([text.push(piece) for piece in pieces])
    return shown + text.finish(), text.stopped


def expected(whole: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The rule: cut at the stop string that is complete first; of those complete at once, at the longest."""
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    return (whole[: min(ends)[1]], True) if ends else (whole, False)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


letters = st.text(alphabet="abé☃😀", max_size=40)
cuts = st.lists(st.integers(min_value=0, max_value=400), max_size=30)
stop_strings = st.lists(st.text(alphabet="abé☃😀", min_size=1, max_size=5), max_size=16).map(tuple)


@given(whole=st.text(max_size=60), cuts=cuts)
def test_any_cut_of_utf8_gives_the_same_text(whole: str, cuts: list[int]) -> None:
    whole = whole.encode("utf-8", "replace").decode()
    assert feed(cut(whole.encode(), cuts)) == (whole, False)


@given(data=st.binary(max_size=60), cuts=cuts)
def test_any_bytes_give_what_decoding_them_at_once_gives(data: bytes, cuts: list[int]) -> None:
    assert feed(cut(data, cuts))[0] == data.decode("utf-8", "replace")


@given(whole=letters, cuts=cuts, stops=stop_strings)
def test_text_ends_before_the_first_complete_stop_string(whole: str, cuts: list[int], stops: tuple[str, ...]) -> None:
    assert feed(cut(whole.encode(), cuts), stops) == expected(whole, stops)


@given(whole=letters, cuts=cuts, stops=stop_strings)
def test_nothing_shown_is_ever_taken_back(whole: str, cuts: list[int], stops: tuple[str, ...]) -> None:
    final, _ = expected(whole, stops)
    text = TextAssembler(stops)
    shown = ""
    for piece in cut(whole.encode(), cuts):
        shown += text.push(piece)
        assert final.startswith(shown)
        assert "�" not in shown


@given(whole=letters, stops=stop_strings)
def test_no_more_is_held_back_than_could_begin_a_stop_string(whole: str, stops: tuple[str, ...]) -> None:
    text = TextAssembler(stops)
    shown = "".join([text.push(char.encode()) for char in whole])
    held = whole[len(shown) :]
    assert text.stopped or held == "" or any(stop.startswith(held) for stop in stops)


def test_half_a_character_waits_for_its_rest() -> None:
    text = TextAssembler()
    snowman = "☃".encode()
    assert [text.push(snowman[:1]), text.push(snowman[1:2]), text.push(snowman[2:])] == ["", "", "☃"]


def test_a_cut_off_character_at_the_end_becomes_a_replacement_character() -> None:
    text = TextAssembler(["stop"])
    assert text.push("ok ☃".encode()[:-1]) == "ok "
    assert text.finish() == "�"


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["Hello", " wor", "ld", "!"], ("world",), "Hello "),
        (["a", "b", "c"], ("b", "abc"), "a"),
        (["END"], ("END",), ""),
        (["aab"], ("ab",), "a"),
        (["\n", "\n", "x"], ("\n\n",), ""),
        (["no stop", " here"], ("STOP",), "no stop here"),
        (["almost ST", "O"], ("STOP",), "almost STO"),
    ],
)
def test_stop_strings(pieces: list[str], stops: tuple[str, ...], shown: str) -> None:
    assert feed([piece.encode() for piece in pieces], stops)[0] == shown


def test_after_a_stop_nothing_comes() -> None:
    text = TextAssembler(["x"])
    assert text.push(b"ax") == "a"
    assert text.stopped
    assert text.push(b"more") == ""
    assert text.finish() == ""


def test_empty_stop_strings_do_not_count() -> None:
    assert feed([b"text"], ("",)) == ("text", False)
