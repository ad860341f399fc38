"""Put this folder on PYTHONPATH, and a process has two GPUs. The file $TEST_LOST_GPUS names those that are lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.fakes.nvml import Card, FakeNvml

_CARDS = (Card("GPU-aaaa"), Card("GPU-bbbb"))
_FAKE = FakeNvml(*_CARDS)


def __getattr__(name: str) -> Any:
    lost = Path(os.environ["TEST_LOST_GPUS"])
    named = lost.read_text() if lost.exists() else ""
    for card in _CARDS:
        card.lost = card.uuid in named
    return getattr(_FAKE, name)
