"""What the terminal hears before the parts start."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import foreground
from ops.foreground import Foreground
from ops.launch import Launch
from ops.node_state import NodeState


class Idle:
    """A supervisor with nothing to do."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def run(self) -> None: ...


@pytest.mark.parametrize(("protocol", "told"), [("grpc", 1), ("", 0)])
def test_traces_that_cannot_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], protocol: str, told: int
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(foreground, "Supervisor", Idle)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    Foreground(Launch(tmp_path, (), NodeState(node="n", redis_url="redis://x"), workers=1)).run()
    said = "".join(capfd.readouterr())
    assert said.count("no traces: OTEL_EXPORTER_OTLP_PROTOCOL") == told
    assert "hunter2" not in said
