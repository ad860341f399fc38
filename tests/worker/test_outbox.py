"""The outbox: order, a bound, and nobody left waiting."""

from __future__ import annotations

from worker.outbox import KEEP_BYTES, KEEP_S, Batch, Outbox


def batch(name: str, size: int = 10) -> Batch:
    return Batch(name, b"x" * size)


def names(batches: list[Batch]) -> list[str]:
    return [one.bridge_id for one in batches]


def test_first_in_first_out():
    outbox = Outbox(1000)
    for name in "abc":
        assert outbox.put(batch(name)) == []
    assert names(outbox.head(2)) == ["a", "b"]
    outbox.pop(2)
    assert names(outbox.head(9)) == ["c"]


def test_over_the_bound_the_oldest_go():
    outbox = Outbox(25)
    outbox.put(batch("a"))
    outbox.put(batch("b"))
    assert names(outbox.put(batch("c"))) == ["a"]
    assert names(outbox.head(9)) == ["b", "c"]


def test_a_batch_larger_than_the_bound_still_gets_its_chance():
    outbox = Outbox(5)
    assert names(outbox.put(batch("a"))) == []
    assert names(outbox.put(batch("b"))) == ["a"]
    assert len(outbox) == 1


def test_room_freed_is_room_again():
    outbox = Outbox(20)
    for _ in range(100):
        assert outbox.put(batch("a")) == []
        outbox.pop(1)


def test_whoever_waits_is_told_when_a_batch_is_out_or_given_up():
    told: list[str] = []
    outbox = Outbox(25)
    for name in "abc":
        outbox.put(Batch(name, b"x" * 10, settle=(lambda name=name: told.append(name),)))
    assert told == ["a"]
    outbox.pop(1)
    assert told == ["a", "b"]
    assert outbox.clear() == 1
    assert told == ["a", "b", "c"]


def test_what_was_sent_lately_can_be_sent_again_in_order_and_settles_nobody_twice():
    told: list[str] = []
    outbox = Outbox(1000)
    for name in "abc":
        outbox.put(Batch(name, b"x", releases=((name, 0),), settle=(lambda name=name: told.append(name),)))
    outbox.pop(2)
    assert outbox.rewind() == 2
    assert names(outbox.head(9)) == ["a", "b", "c"]
    assert [one.releases for one in outbox.head(9)] == [(), (), (("c", 0),)]
    outbox.pop(3)
    assert told == ["a", "b", "c"]
    assert outbox.rewind() == 3
    assert outbox.rewind() == 0


def test_what_was_sent_long_ago_or_is_too_much_is_forgotten():
    now = [0.0]
    outbox = Outbox(10**9, clock=lambda: now[0])
    for name in "abc":
        outbox.put(batch(name))
        outbox.pop(1)
        now[0] += KEEP_S * 0.6
    assert outbox.rewind() == 2
    outbox.pop(2)
    outbox.put(batch("large", KEEP_BYTES))
    outbox.pop(1)
    assert outbox.rewind() == 1


def test_what_is_given_up_is_not_sent_again():
    outbox = Outbox(1000)
    outbox.put(batch("a"))
    outbox.clear()
    assert outbox.rewind() == 0
