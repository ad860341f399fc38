"""A conversation's next turn goes where its cache is, and nobody pays for that: the replay at a small scale."""

from __future__ import annotations

from statistics import fmean

import pytest

from bench.affinity import Ours, Outcome, RoundRobin, Site, replay

MOST_LOADED = 1.3
QUIET = Site(workers=3, apart_s=10.0, conversations=150)
BUSY = Site(workers=3, apart_s=3.0, conversations=150)
WIDE = Site(workers=8, apart_s=1.2, conversations=300)


def runs(site: Site, make: type[Ours | RoundRobin]) -> list[Outcome]:
    return [replay(site, make(site), seed) for seed in range(3)]


@pytest.mark.parametrize("site", [QUIET, BUSY, WIDE], ids=["quiet", "busy", "wide"])
def test_affinity_saves_prefill_and_keeps_the_load_even(site: Site) -> None:
    ours, ring = runs(site, Ours), runs(site, RoundRobin)
    assert max(one.busiest for one in ours) <= MOST_LOADED
    assert fmean(one.hit_rate for one in ours) > 1.3 * fmean(one.hit_rate for one in ring)
    assert fmean(one.saved for one in ours) > 1.3 * fmean(one.saved for one in ring)
    assert fmean(one.ttft_s for one in ours) < fmean(one.ttft_s for one in ring)


def test_on_a_quiet_fleet_nearly_every_turn_finds_its_cache() -> None:
    assert fmean(one.hit_rate for one in runs(QUIET, Ours)) > 0.95


def test_the_same_seed_is_the_same_run() -> None:
    assert replay(QUIET, Ours(QUIET), 1) == replay(QUIET, Ours(QUIET), 1)
