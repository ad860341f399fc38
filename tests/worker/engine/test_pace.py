from __future__ import annotations

from worker.engine.pace import Pacer


def settle(n_batch: int, *, fixed_s: float, per_second: float) -> list[int]:
    """The chunks on a machine where a step costs `fixed_s` and then evaluates `per_second` tokens a second."""
    pacer = Pacer(n_batch, target_s=0.2)
    chunks = []
    for _ in range(12):
        pacer.note(pacer.chunk + 8, fixed_s + pacer.chunk / per_second)
        chunks.append(pacer.chunk)
    return chunks


def test_a_fast_machine_soon_gets_whole_batches() -> None:
    assert settle(512, fixed_s=0.005, per_second=20_000)[:3] == [128, 256, 512]


def test_a_slow_machine_stays_near_the_target() -> None:
    assert set(settle(512, fixed_s=0.05, per_second=1000)[3:]) == {128}


def test_a_machine_slower_than_the_target_still_gets_on() -> None:
    assert set(settle(512, fixed_s=0.5, per_second=100)) == {64}


def test_a_chunk_is_never_larger_than_a_batch() -> None:
    assert Pacer(16).chunk == 16
    assert settle(100, fixed_s=0, per_second=1e6)[-1] == 100
    assert settle(16, fixed_s=9, per_second=1)[-1] == 16


def test_small_steps_do_not_count() -> None:
    pacer = Pacer(512)
    pacer.note(3, 0.001)
    assert pacer.chunk == 64
