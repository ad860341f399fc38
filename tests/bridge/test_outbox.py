from __future__ import annotations

from bridge.outbox import Outbox, Sent


def filled(count: int, limit: int = 1000) -> Outbox:
    box = Outbox(limit)
    for seq in range(count):
        box.add((seq, "x" * 10, True))
    return box


def seqs(items: list[Sent] | None) -> list[int] | None:
    return None if items is None else [item[0] for item in items]


def test_it_says_again_what_comes_after_a_seq() -> None:
    assert seqs(filled(4).after(1)) == [2, 3]
    assert seqs(filled(4).after(-1)) == [0, 1, 2, 3]
    assert seqs(filled(4).after(9)) == []


def test_an_ack_forgets() -> None:
    box = filled(4)
    box.ack(2)
    assert len(box) == 1
    assert box.chars == 10
    assert seqs(box.after(2)) == [3]


def test_what_was_dropped_for_room_is_reported_missing() -> None:
    box = filled(5, limit=30)
    assert seqs(box.after(1)) == [2, 3, 4]
    assert box.after(0) is None


def test_the_newest_stays_however_large() -> None:
    box = Outbox(limit=5)
    box.add((0, "a" * 100, False))
    assert seqs(box.after(-1)) == [0]
