"""What breaks here is a stack of the suite's own: two workers of the real model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
collect_ignore = [] if os.environ.get("CHAOS_LONG") else ["test_every_moment.py"]  # minutes: `make chaos` runs it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture(scope="session")
def models_dir(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the real model, as an install leaves it."""
    store = tmp_path_factory.mktemp("models")
    (store / smollm2.name).symlink_to(smollm2)
    sidecar = {"id": "smollm2:135m", "purpose": "chat", "licence": "Apache-2.0"}
    (store / f"{smollm2.name}.meta.json").write_text(json.dumps(sidecar))
    return store
