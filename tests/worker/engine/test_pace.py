from __future__ import annotations

from worker.engine.pace import Pacer


def test_a_whole_batch_until_something_is_known() -> None:
    assert Pacer(512).chunk == 512


def test_a_slow_machine_gets_smaller_chunks() -> None:
    pacer = Pacer(512, target_s=0.1)
    pacer.note(400, 0.5)
    assert pacer.chunk == 80


def test_a_fast_machine_keeps_whole_batches() -> None:
    pacer = Pacer(512)
    pacer.note(512, 0.01)
    assert pacer.chunk == 512


def test_small_steps_do_not_count() -> None:
    pacer = Pacer(512)
    pacer.note(3, 1.0)
    assert pacer.chunk == 512


def test_chunks_never_get_tiny() -> None:
    pacer = Pacer(512)
    pacer.note(400, 400.0)
    assert pacer.chunk == 32
