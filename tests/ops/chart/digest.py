"""A digest of everything that decides what the chart renders: `python -m tests.ops.chart.digest`."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHART = Path(__file__).resolve().parents[3] / "ops" / "helm"


def digest() -> str:
    seen = hashlib.sha256()
    for path in sorted(CHART.rglob("*")):
        if path.is_file():
            seen.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes() + b"\0")
    return seen.hexdigest()


if __name__ == "__main__":
    print(digest())  # noqa: T201  # a program's own output
