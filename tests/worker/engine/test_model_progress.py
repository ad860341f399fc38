"""A load tells how far it is, and stops at the very next sign."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.errors import JobCancelledError
from worker.engine.model import LoadedModel


@pytest.mark.parametrize("mmap", [True, False])
def test_a_stopped_load_does_not_go_on(tiny_path: Path, mmap: bool) -> None:  # noqa: FBT001  # a parameter
    seen: list[float] = []

    def stop_in_the_middle(fraction: float) -> bool:
        seen.append(fraction)
        return fraction < 0.4

    with pytest.raises(JobCancelledError):
        LoadedModel(tiny_path, n_gpu_layers=0, mmap=mmap, progress=stop_in_the_middle)
    assert [fraction for fraction in seen if fraction >= 0.4] == seen[-1:]
    assert len(seen) > 2
    assert seen[-1] < 1


def test_progress_of_a_real_model_is_fine_grained(smollm2: Path) -> None:
    seen: list[float] = []
    LoadedModel(smollm2, n_gpu_layers=0, progress=seen.append).close()
    assert seen == sorted(seen)
    assert len(seen) > 100
    assert max(after - before for before, after in pairwise(seen)) < 0.4
