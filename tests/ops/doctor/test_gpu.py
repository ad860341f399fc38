"""The card against the build."""

from __future__ import annotations

import pytest

from ops.doctor.gpu import Facts, judge
from ops.doctor.verdict import Level


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
