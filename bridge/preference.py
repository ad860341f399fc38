"""Which of the backends that have a model comes first, and what all of them together can do. Pure.

The preferred one serves for as long as it has room; a job that would have to wait there goes to the next. Workers of
a backend that just lost the job come last when there are others, so the next attempt is the next backend's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.fleet import Fleet, WorkerView
from tasks.capability import objection
from tasks.contract import JobKind, ModelInfo
from tasks.errors import BadRequestError


def rank(model: ModelInfo, order: Sequence[str]) -> int:
    """0 for the preferred backend; one that nobody ranked comes last."""
    return order.index(model.backend) if model.backend in order else len(order)


def by_preference(
    views: Iterable[WorkerView], model: str, order: Sequence[str], avoid: str = ""
) -> list[list[WorkerView]]:
    """The workers in groups of one backend each, in the order in which to try them."""
    groups: dict[int, list[WorkerView]] = {}
    for view in views:
        groups.setdefault(rank(view.rows[model], order), []).append(view)

    def key(place: int) -> tuple[bool, int]:
        return [view.id for view in groups[place]] == [avoid], place

    return [groups[place] for place in sorted(groups, key=key)]


def incapable(
    kind: JobKind, model: str, views: Iterable[WorkerView], fleet: Fleet, *, images: bool
) -> BadRequestError | None:
    """Why none of these workers' copies of the model can do this, naming the fleet's models that can."""
    rows = [view.rows[model] for view in views if model in view.rows]
    installed = (row for view in fleet for row in view.rows.values())
    return objection(kind, model, rows, installed, images=images) if rows else None


def merged(rows: Sequence[ModelInfo]) -> ModelInfo:
    """One model as its backends have it, the preferred one first: details from that, the rest if any is."""
    said = [row.features for row in rows if row.features is not None]
    features = tuple(sorted({name for names in said for name in names})) if said else None
    somewhere = {"loaded": any(row.loaded for row in rows), "fits": any(row.fits for row in rows)}
    return rows[0].model_copy(update={**somewhere, "features": features})
