"""External servers: what nobody configured need not be there."""

from __future__ import annotations

import pytest

from ops.doctor.servers import judge
from ops.doctor.verdict import Level
from tasks.contract import BackendReport, BackendState

FOUND, HELD, MISSING, OFF = BackendState.FOUND, BackendState.HELD, BackendState.MISSING, BackendState.OFF


@pytest.mark.parametrize(
    ("report", "level"),
    [
        (BackendReport(product="ollama", state=FOUND, url="http://h:1", version="0.5"), Level.OK),
        (BackendReport(product="ollama", state=FOUND, url="http://h:1", why="too old"), Level.WARNING),
        (BackendReport(product="ollama", state=HELD, url="http://h:1", why="comes and goes"), Level.WARNING),
        (BackendReport(product="ollama", state=MISSING, configured=True, url="http://h:1"), Level.FAILED),
        (BackendReport(product="ollama", state=MISSING, why="connection refused"), Level.SKIPPED),
        (BackendReport(product="ollama", state=OFF, why="off"), Level.SKIPPED),
    ],
)
def test_what_is_said(report, level):
    (verdict,) = judge((report,))
    assert verdict.level is level


def test_one_that_is_missing_names_its_setting():
    (verdict,) = judge((BackendReport(product="vllm", state=MISSING, configured=True),))
    assert "VLLM_ENDPOINT" in verdict.fix
