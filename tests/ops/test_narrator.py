"""What a person reads while the stack starts, and when."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ops.launch import Launch
from ops.narrator import Narrator, curl
from ops.node_state import NodeState
from ops.probes import Health
from worker.children import Change, ChildSpec, State

HOME = Path("/home/it's me")
SPECS = tuple(ChildSpec(name, name, ("true",), Path(f"/logs/{name}.log")) for name in ("redis", "worker-cpu0"))
STATE = NodeState(node="wrk-1", redis_url="unix:///r")


def launch(models: tuple[str, ...] = ("smollm2:135m",), url: str | None = "http://127.0.0.1:8080") -> Launch:
    return Launch(HOME, SPECS, STATE, workers=2, models=models, url=url, api_key="pdr_sk_x")


class Scene:
    """A narrator with a clock and a control plane of ours."""

    def __init__(self, launched: Launch) -> None:
        self.now = 100.0
        self.health: Health | None = None
        self.asked = 0
        self.ready = 0
        self.narrator = Narrator(launched, self._count_ready, ask=self._ask, clock=lambda: self.now)

    def _count_ready(self) -> None:
        self.ready += 1

    def _ask(self, _url: str) -> Health | None:
        self.asked += 1
        return self.health

    def everything_up(self) -> None:
        for spec in SPECS:
            self.narrator.changed(Change(spec, State.READY, pid=7))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.narrator.tick()


def test_ready_once_when_every_worker_serves(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(launch())
    scene.everything_up()
    for health in (
        None,
        Health(status="starting", workers=2),
        Health(status="ready", workers=1, models=("smollm2:135m",)),
    ):
        scene.health = health
        scene.pass_time(1)
        assert scene.ready == 0
    scene.health = Health(status="ready", workers=2, models=("smollm2:135m",))
    scene.pass_time(1)
    scene.pass_time(1)
    assert scene.ready == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("ready: http://127.0.0.1:8080") == 1
    assert any("pdr_sk_x" in line for line in lines)


def test_nobody_is_asked_before_the_parts_are_up() -> None:
    scene = Scene(launch())
    scene.narrator.changed(Change(SPECS[0], State.READY, pid=7))
    scene.pass_time(1)
    assert scene.asked == 0


def test_a_slow_start_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(launch())
    scene.narrator.changed(Change(SPECS[0], State.READY, pid=7))
    scene.pass_time(16)
    assert "16 s: waiting for worker-cpu0 (log: /logs/worker-cpu0.log)" in capsys.readouterr().out


def test_without_a_model_the_next_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(launch(models=()))
    scene.health = Health(status="starting", workers=2)
    scene.everything_up()
    for _ in range(5):
        scene.pass_time(1)
    assert capsys.readouterr().out.count("pendra models install") == 1


def test_a_death_names_its_log_and_the_delay(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(launch())
    scene.narrator.changed(Change(SPECS[1], State.BACKOFF, pid=7, exit_code=-9, delay_s=0.5, failures=1))
    out = capsys.readouterr().out
    assert "killed by SIGKILL; starts again in 0.5 s; log: /logs/worker-cpu0.log" in out


def test_stopping_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(launch())
    for spec in SPECS:
        scene.narrator.changed(Change(spec, State.STOPPING, pid=7))
    assert capsys.readouterr().out.count("stopping") == 1


def test_a_fleet_host_is_ready_when_its_parts_are() -> None:
    scene = Scene(launch(url=None))
    scene.everything_up()
    scene.pass_time(1)
    assert (scene.ready, scene.asked) == (1, 0)


def test_the_curl_line_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    home = tmp_path / "it's me"
    home.mkdir()
    (home / "api-key").write_text("pdr_sk_x\n")
    line = curl(replace(launch(), home=home), "smollm2:135m")
    assert "pdr_sk_x" not in line  # nor in the shell's history
    script = f"curl() {{ printf '%s\\n' \"$@\"; }}; {line}"
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[:4] == ["-N", "http://127.0.0.1:8080/v1/chat/completions", "-H", "Authorization: Bearer pdr_sk_x"]
    assert json.loads(words[-1])["model"] == "smollm2:135m"
