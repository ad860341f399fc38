from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.outbox import Outbox, Sent


def filled(count: int, limit: int = 1000, *, sent: bool = True) -> Outbox:
    box = Outbox(limit)
    for seq in range(count):
        box.add((seq, "x" * 10, True), sent=sent)
    return box


def seqs(items: list[Sent]) -> list[int]:
    return [item[0] for item in items]


def after(box: Outbox, seq: int) -> list[int] | None:
    """What a reconnect of an API that has everything up to `seq` brings."""
    return seqs(box.take(10**9)) if box.rewind(seq) else None


def test_it_says_again_what_comes_after_a_seq() -> None:
    assert after(filled(4), 1) == [2, 3]
    assert after(filled(4), -1) == [0, 1, 2, 3]
    assert after(filled(4), 9) == []


def test_an_ack_forgets() -> None:
    box = filled(4)
    box.ack(2)
    assert len(box) == 1
    assert box.chars == 10
    assert after(box, 2) == [3]


def test_what_was_dropped_for_room_is_reported_missing() -> None:
    box = filled(5, limit=30)
    assert after(box, 1) == [2, 3, 4]
    assert after(box, 0) is None


def test_the_newest_stays_however_large() -> None:
    box = Outbox(limit=5)
    box.add((0, "a" * 100, False))
    assert after(box, -1) == [0]
    assert not box.overfull


def test_what_was_not_sent_is_not_dropped() -> None:
    box = filled(3, limit=30)
    for seq in (3, 4, 5):
        assert not box.overfull
        box.add((seq, "x" * 10, True), sent=False)
    assert not box.overfull
    box.add((6, "x" * 10, True), sent=False)
    assert box.overfull
    assert (box.next_unsent, seqs(box.take(1000))) == (3, [3, 4, 5, 6])


def test_what_waits_is_taken_in_pieces() -> None:
    box = filled(5, sent=False)
    assert seqs(box.take(25)) == [0, 1]
    assert seqs(box.take(1)) == [2]
    assert box.unsent == 2
    assert seqs(box.take(100)) == [3, 4]
    assert box.take(100) == []


@given(st.lists(st.sampled_from(["add", "add unsent", "take", "ack", "rewind"]), max_size=60))
def test_whatever_happens_it_stays_within_its_limit_and_skips_nothing(steps: list[str]) -> None:
    box, told, count, acked = Outbox(limit=50), -1, 0, -1
    for step in steps:
        if step == "add" and not box.unsent:
            box.add((count, "x" * 10, True))
            count, told = count + 1, count
        elif step.startswith("add") and not box.overfull:
            box.add((count, "x" * 10, True), sent=False)
            count += 1
        elif step == "take":
            for seq, _, _ in box.take(20):
                assert seq == told + 1
                told = seq
        elif step == "ack":
            acked = told
            box.ack(acked)
        elif step == "rewind" and box.rewind(acked):
            told = acked
        assert box.unsent == count - 1 - told
        assert box.chars == 10 * len(box) <= 60
