"""The storm in a bounded form: every fault once, in an order and at moments drawn from the seed that is printed.

`CHAOS_SEED` repeats one. `make chaos` goes on for as long as it is told.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from tests.chaos.faults import Fault
from tests.chaos.storm import storm


def test_whatever_breaks_everybody_who_waits_gets_the_exact_text(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "0")) or secrets.randbelow(2**32)
    verdict = asyncio.run(storm(tmp_path, seed, seconds=None))
    print("\n".join(verdict.lines()))  # noqa: T201  # the figures, and the seed that repeats it
    assert verdict.broken == [], f"seed {seed}"
    assert {blow.fault for blow in verdict.blows} == set(Fault)
    assert verdict.readings > 50
    assert verdict.left, "nobody went away"
