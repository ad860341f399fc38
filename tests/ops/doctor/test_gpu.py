"""The card against the build."""

from __future__ import annotations

import pytest

from ops.doctor.gpu import Facts, judge, judge_holders
from ops.doctor.verdict import Level
from worker.vram import Held


@pytest.mark.parametrize(
    ("facts", "level", "word"),
    [
        (Facts(("H200",), tool=True, offloads=True), Level.OK, "H200"),
        (Facts(("H200",), tool=True, offloads=False), Level.WARNING, "GGML_CUDA"),
        (Facts((), tool=True, offloads=False), Level.WARNING, "nvidia-smi"),
        (Facts((), tool=False, offloads=False), Level.OK, "a CPU build"),
        (Facts((), tool=False, offloads=True), Level.OK, "a GPU build"),
    ],
)
def test_what_is_said(facts, level, word):
    verdict = judge(facts)
    assert verdict.level is level
    assert word in f"{verdict.found} {verdict.fix}"


def test_a_worker_that_outlived_its_supervisor_is_named() -> None:
    rows = [Held("gpu1", 7, 2**30, "python", orphan=True), Held("gpu1", 9, 2**30, "ollama")]
    (found,) = judge_holders(rows)
    assert "gpu1: 1024 MiB held by process 7" in str(found)
