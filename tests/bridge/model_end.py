"""The end of a model's run: everything works again for a while, and then all that was promised must have happened."""

from __future__ import annotations

from bridge.supervision import MAX_LOSSES
from tests.bridge.model_world import TICK_S, World

MOMENTS = 400


def calm_down(world: World) -> None:
    """Everything works again; after a while every job must have ended."""
    world.redis_returns()
    if not world.linked:
        world.link_up()
    for worker_id in world.workers:
        world.revive(worker_id)
    world.heal = bool(world.heal)  # what Redis did not pass on took a ping of the bridge's own with it
    for _ in range(MOMENTS):
        _go_on(world)
        if _is_over(world):
            break
    for job_id in world.api.jobs:
        world.ack(job_id)
    _carry_all_out(world)


def judge(world: World) -> None:
    """One end each, the whole text, and nothing left anywhere. AssertionError: a promise is broken."""
    world.api.judge(excuses(world))
    world.redis.judge()
    ledger = world.session._ledger
    assert not ledger.jobs.open
    assert not any(one.running for one in ledger.scheduler._tenants.values()), "a tenant is charged for nothing"
    assert not ledger.fleet._holder, "the bridge counts a slot that is free"


def excuses(world: World) -> set[str]:
    """Why a job may end without its text: nobody was there, workers died too often, or two parts died at once."""
    codes = {"no_worker", "model_not_found", "redis_unavailable"}
    if world.losses >= MAX_LOSSES:
        codes.add("worker_lost")
    if world.redis_losses and world.bridge_losses:
        codes.add("stream_gap")
    return codes


def _go_on(world: World) -> None:
    """A moment in which everybody does what there is to do."""
    world.tick(TICK_S)
    _carry_all_out(world)
    world.redis.late.clear()
    world.heal_now()
    for worker_id in world.workers:
        world.claim(worker_id)
    for run in list(world.runs()):
        world.step(*run, count=8, fate="now")


def _is_over(world: World) -> bool:
    runs = any(True for _ in world.runs())
    return not (world.session.open_jobs or world.session._ledger.loose or world.pending or runs)


def _carry_all_out(world: World) -> None:
    while world.pending:
        world.carry_out()
