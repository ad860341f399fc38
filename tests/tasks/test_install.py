"""The install tasks: plain JSON in, a code and words out when it fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore

from tasks.contract import InstallProgress, InstallRequest
from tasks.errors import UnavailableError
from tasks.install import InstallError, install_model, uninstall_model
from worker import installer_agent
from worker.install_report import Rate, Report, summary
from worker.store.planner import Stage


class FakeAgent:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[Any] = []

    def install(self, request: InstallRequest, task: Any) -> dict[str, Any]:
        self.asked.append(request)
        if self.error:
            raise self.error
        return {"model": request.model}

    def uninstall(self, model: str, backend: str | None, **more: Any) -> dict[str, Any]:
        self.asked.append((model, backend, more["force"]))
        return {"model": model}


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    fake = FakeAgent()
    monkeypatch.setattr(installer_agent, "_current", fake)
    return fake


def test_arguments_are_the_fields_of_a_request(agent: FakeAgent):
    assert install_model("tiny:1", source="hf://o/r/x.gguf", mirrors=["https://m/x.gguf"]) == {"model": "tiny:1"}
    assert agent.asked == [InstallRequest(model="tiny:1", source="hf://o/r/x.gguf", mirrors=("https://m/x.gguf",))]
    uninstall_model("tiny:1", force=True)
    assert agent.asked[-1] == ("tiny:1", None, True)


def test_a_wrong_argument_is_named_and_not_quoted(agent: FakeAgent):
    with pytest.raises(InstallError, match=r"\[bad_request\] the argument purpose") as caught:
        install_model("tiny:1", purpose="s3cret")
    assert "s3cret" not in str(caught.value)
    assert agent.asked == []


def test_an_agent_that_ends_leaves_the_state_as_it_is(agent: FakeAgent):
    agent.error = UnavailableError("ends", code="draining")
    with pytest.raises(Ignore):
        install_model("tiny:1")


def test_without_an_agent_it_says_where_to_ask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installer_agent, "_current", None)
    with pytest.raises(InstallError, match=r"install\.<node>"):
        install_model("tiny:1")


def test_progress_is_told_twice_a_second_and_at_each_stage():
    told: list[dict[str, Any]] = []
    now = [0.0]
    task = SimpleNamespace(
        update_state=lambda **state: told.append(state["meta"]), send_event=lambda *_args, **_fields: None
    )
    report = Report(task, "t", "m", "n", clock=lambda: now[0])
    for second, stage in [(0.0, "resolving"), (0.1, "downloading"), (0.3, "downloading"), (1.1, "downloading")]:
        now[0] = second
        report(Stage(stage), int(second * 1000), 10_000)
    assert [(one["stage"], one["done"]) for one in told] == [
        ("resolving", 0),
        ("downloading", 100),
        ("downloading", 1100),
    ]
    assert told[-1]["rate"] == 1000.0
    assert told[-1]["eta"] == 8.9


def test_nobody_hears_it_and_the_install_goes_on():
    def away(**_: Any) -> None:
        raise ConnectionError

    Report(SimpleNamespace(update_state=away), "t", "m", "n")(Stage.DOWNLOADING, 0, None)


def test_a_line_for_people():
    progress = InstallProgress(model="m", node="n", stage="downloading", done=12_000_000, total=98_362_432)
    assert summary(progress) == "downloading 12.0 MB of 98.4 MB (12 %)"
    going = progress.model_copy(update={"rate": 5_100_000.0, "eta": 17.0})
    assert summary(going) == "downloading 12.0 MB of 98.4 MB (12 %), 5.1 MB/s, 17 s left"
    assert summary(InstallProgress(model="m", node="n", stage="downloading", done=5_000)) == "downloading 5.0 kB"
    assert summary(InstallProgress(model="m", node="n", stage="resolving")) == "resolving"


def test_a_rate_starts_over_when_bytes_go_back():
    rate = Rate()
    assert rate(0.0, 0) is None
    assert rate(1.0, 1000) == 1000.0
    assert rate(2.0, 500) is None
