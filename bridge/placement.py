"""Which worker may take a job, and through which queue. Pure functions over the fleet.

1. A pin: that worker only, through its own queue.
2. The model is loaded somewhere with a free slot: those workers, least loaded first, through the model's queue; the
   one that ran the conversation last gets it through its own, unless it is busier than its cache is worth.
3. It is being loaded somewhere: join there while slots last, else wait. One burst never loads a model twice.
4. Loaded but full everywhere: load it on one more worker that has it installed and is idle.
5. Loaded nowhere: load it on one worker, preferably an idle one with nothing in memory.

Only workers whose memory is large enough load a model (`ModelInfo.fits`). Among equals the one that was given a job
longest ago comes first: that spreads conversations, and it is the idlest model that makes room for another.

When several backends have the model, 2 to 5 hold for each of them in turn, the preferred first (`bridge.preference`).
Jobs that not everybody who has the model may take (labels, a private-inference key, a preferred backend) go through
worker queues, because all of those consume the model's queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bridge.fleet import Fleet, WorkerView, models_of
from bridge.preference import by_preference, incapable
from bridge.protocol import JobFrame
from tasks.capability import can, sees, shows_images
from tasks.contract import BUILT_IN, JobKind
from tasks.errors import NotFoundError, PendraError, UnavailableError, WorkerError
from tasks.private import ENVELOPE

AFFINITY_BUSIER = 2  # jobs that the worker with the cache may run more than the idlest


@dataclass(frozen=True, slots=True)
class Need:
    """What a job demands of a worker. Jobs with equal needs wait in one lane.

    `kind` None: anything; `images`: it shows some; `resumes`: it goes on in the middle of a reply, which only our own
    engine can.
    """

    model: str
    pin: str | None = None
    kids: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    kind: JobKind | None = None
    images: bool = False
    resumes: bool = False

    @property
    def only_some(self) -> bool:
        return bool(self.kids or self.labels)


@dataclass(frozen=True, slots=True)
class Plan:
    """Try these (worker id, slots), in this order. `shared`: through the model's queue, else the worker's own."""

    candidates: tuple[tuple[str, int], ...]
    shared: bool


def need_of(frame: JobFrame, kid: str = "", *, resumes: bool = False) -> Need:
    """`kid`: the key that a private reply was begun under; only a worker that holds this one can go on with it."""
    sealed = frame.body.get(ENVELOPE)
    kids = frozenset(frame.kids) or (_kids(sealed) if isinstance(sealed, dict) else frozenset[str]())
    kids = frozenset({kid}) if kid else kids
    kind = JobKind.CHAT if frame.kind is JobKind.COMPLETION else frame.kind  # they share their workers
    images = shows_images(frame.kind, frame.body)
    return Need(frame.model, frame.pin, kids, frozenset(frame.labels), kind, images, resumes)


def _kids(envelope: dict[str, Any]) -> frozenset[str]:
    recipients = envelope.get("recipients")
    if not isinstance(recipients, list):
        return frozenset()
    return frozenset(str(r["kid"]) for r in recipients if isinstance(r, dict) and "kid" in r)


def eligible(need: Need, fleet: Fleet) -> list[WorkerView]:
    """Workers that may run the job, busy or not."""
    return [view for view in fleet if view.speaks and not view.draining and _fits(need, view)]


def slots_for(need: Need, fleet: Fleet) -> int:
    """How many slots jobs like this may get in time: those of its workers that no other model's jobs of ours hold.

    At least 1 for as long as there is such a worker: the others end, too.
    """
    able = eligible(need, fleet)
    free = sum(view.info.slots_total - view.held_by_others(need.model) for view in able)
    return max(free, min(len(able), 1))


def _fits(need: Need, view: WorkerView) -> bool:
    row = view.rows.get(need.model)
    return (
        row is not None
        and (need.kind is None or can(need.kind, row))
        and (not need.images or sees(row))
        and (not need.resumes or row.backend == BUILT_IN)
        and has_room(view, need.model)
        and (need.pin is None or need.pin == view.id)
        and (not need.kids or not need.kids.isdisjoint(view.info.kids))
        and need.labels.issubset(view.info.labels)
    )


def refusal(need: Need, fleet: Fleet) -> PendraError | None:
    """Why nobody in the fleet could ever run this, or None. In the client's words."""
    serving = [view for view in fleet if view.info.slots_total > 0 and not view.idle_proxy]
    if not serving:
        return UnavailableError("no worker is connected; start one with `pendra worker`")
    if not any(view.speaks for view in serving):
        return _strangers("every connected worker")
    if need.pin is not None:
        return _pin_refusal(need, need.pin, fleet)
    if need.model not in models_of(serving):
        return NotFoundError(f"no worker has the model '{need.model}'; GET /api/v1/models lists what is served")
    if (unable := _incapable(need, serving, fleet)) is not None:
        return unable
    if not _any_holds(need.kids, serving):
        return _no_key("no connected worker holds")
    if need.labels and not any(need.labels.issubset(v.info.labels) and need.model in v.installed for v in serving):
        words = f"no worker with the labels {', '.join(sorted(need.labels))} serves '{need.model}'"
        return UnavailableError(words, code="no_labelled_worker")
    if not any(has_room(view, need.model) for view in serving):
        return _no_room(need.model, "no worker has")
    if not eligible(need, fleet):
        return UnavailableError(f"every worker that could run '{need.model}' is draining")
    return None


def _incapable(need: Need, views: Iterable[WorkerView], fleet: Fleet) -> PendraError | None:
    return None if need.kind is None else incapable(need.kind, need.model, views, fleet, images=need.images)


def _any_holds(kids: frozenset[str], views: Iterable[WorkerView]) -> bool:
    return not kids or any(kids.intersection(view.info.kids) for view in views)


def _no_key(who: str) -> UnavailableError:
    words = f"{who} a key this request was encrypted to; fetch the key again and retry"
    return UnavailableError(words, code="no_private_inference_worker")


def _strangers(who: str) -> UnavailableError:
    words = f"{who} is more than one minor version apart from the bridge; upgrade the older of them"
    return UnavailableError(words, code="version_mismatch")


def has_room(view: WorkerView, model: str) -> bool:
    """Whether the worker has the model, and the memory for it."""
    row = view.rows.get(model)
    return row is not None and (row.fits or row.loaded)


def _no_room(model: str, who: str) -> WorkerError:
    words = f"{who} enough memory for '{model}'; install a smaller quantisation or add a host with more"
    return WorkerError(words, code="out_of_memory")


def _pin_refusal(need: Need, pin: str, fleet: Fleet) -> PendraError | None:
    view, model = fleet.get(pin), need.model
    if view is None:
        return NotFoundError(f"the pinned worker '{pin}' is not connected", code="worker_not_found")
    if not view.speaks:
        return _strangers(f"the pinned worker '{pin}'")
    if model not in view.installed:
        return NotFoundError(f"the pinned worker '{pin}' does not have '{model}'", code="model_not_installed")
    if (unable := _incapable(need, [view], fleet)) is not None:
        return unable
    if not _any_holds(need.kids, [view]):
        return _no_key(f"the pinned worker '{pin}' does not hold")
    if not has_room(view, model):
        return _no_room(model, f"the pinned worker '{pin}' does not have")
    if not need.labels.issubset(view.info.labels):
        words = f"the pinned worker '{pin}' lacks a label that this API key demands"
        return UnavailableError(words, code="no_labelled_worker")
    if view.draining:
        return UnavailableError(f"the pinned worker '{pin}' is draining and takes no new jobs", code="draining")
    return None


def plan(need: Need, fleet: Fleet, avoid: str = "", prefer: str = "") -> Plan | None:
    """Where the job can go now, or None: wait. `avoid` is tried last; `prefer` has the conversation in its cache."""
    able = eligible(need, fleet)
    if need.pin is not None:
        return _own_queue(able, avoid)
    holders = sum(need.model in view.installed and not view.draining for view in fleet)
    for group in by_preference(able, need.model, fleet.order, avoid):
        if (found := _plan_among(need, group, avoid, prefer)) is not None:
            return found if len(group) == holders else replace(found, shared=False)
    return None


def _plan_among(need: Need, able: list[WorkerView], avoid: str, prefer: str) -> Plan | None:
    """Among workers that are equally welcome."""
    warm = [view for view in able if need.model in view.loaded]
    if ready := _free(warm):
        if (known := _worth_it(ready, prefer)) is not None:
            return Plan(((known.id, known.info.slots_total),), shared=False)
        ordered = _least_loaded(ready, avoid)
        return Plan(tuple((v.id, v.info.slots_total) for v in ordered), shared=not need.only_some)
    if loading := [view for view in able if view.is_loading(need.model)]:
        return _own_queue(loading, avoid)
    cold = [view for view in able if need.model not in view.loaded]
    if warm:
        return _own_queue([view for view in cold if not view.busy], avoid)
    return _own_queue(cold, avoid)


def _worth_it(ready: list[WorkerView], prefer: str) -> WorkerView | None:
    """The preferred worker, unless it is so busy that another is quicker without the cache."""
    known = next((view for view in ready if view.id == prefer), None)
    idlest = min(view.busy for view in ready)
    return known if known is not None and known.busy <= idlest + AFFINITY_BUSIER else None


def _own_queue(views: Iterable[WorkerView], avoid: str) -> Plan | None:
    ordered = _least_loaded(_free(views), avoid)
    return Plan(((ordered[0].id, ordered[0].info.slots_total),), shared=False) if ordered else None


def _free(views: Iterable[WorkerView]) -> list[WorkerView]:
    return [view for view in views if view.free > 0]


def _least_loaded(views: Iterable[WorkerView], avoid: str) -> list[WorkerView]:
    def rank(view: WorkerView) -> tuple[bool, float, int, int, str]:
        return view.id == avoid, view.busy / view.info.slots_total, len(view.loaded), view.turn, view.id

    return sorted(views, key=rank)
