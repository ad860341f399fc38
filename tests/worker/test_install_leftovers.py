"""What an earlier life of the agent left is asked for again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.contract import InstallRequest
from tasks.errors import PendraError
from tasks.settings import load_settings
from worker.install_notes import noted
from worker.installer_agent import Agent

REQUEST = InstallRequest(model="tiny:1", source="https://h/tiny.gguf", mirrors=("https://m/tiny.gguf",))


def test_an_agent_that_starts_asks_itself_again(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, worker_id="n", redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(PendraError), noted(settings.models_dir, "t1", REQUEST):
        raise PendraError("killed", code="draining")
    sent: list[tuple[str, dict[str, Any]]] = []
    agent = Agent(settings)
    agent.start(SimpleNamespace(send_task=lambda name, **how: sent.append((name, how))))
    agent.close()
    ((name, how),) = sent
    assert name == "tasks.install_model"
    assert (how["task_id"], how["queue"]) == ("t1", "install.n")
    assert InstallRequest.model_validate(how["kwargs"]) == REQUEST
