"""Which external server serves which model. Pure and frozen: discovery makes a new one at every look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.capability import can
from tasks.contract import JobKind, ModelInfo
from worker.backends.external.presence import Seen
from worker.backends.external.product import Found, Product, Served


@dataclass(frozen=True, slots=True)
class Target:
    """One server that has the model."""

    product: Product
    found: Found
    served: Served

    def takes(self, kind: JobKind) -> bool:
        return kind in self.product.kinds and can(kind, self.served.info)


@dataclass(frozen=True, slots=True)
class Directory:
    """`models`: model id → its servers, the preferred one first."""

    models: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)

    @property
    def infos(self) -> tuple[ModelInfo, ...]:
        """Each model once, as its preferred server has it."""
        return tuple(self.models[model][0].served.info for model in sorted(self.models))

    def targets(self, model: str, kind: JobKind) -> tuple[Target, ...]:
        """The servers that can do this with the model, the preferred first."""
        return tuple(target for target in self.models.get(model, ()) if target.takes(kind))


def directory(
    shown: Iterable[tuple[Product, Seen]], order: Sequence[str], only: Iterable[str] | None = None
) -> Directory:
    """`order`: backends, the preferred first; `only`: the model ids that may be served (None = all)."""
    allowed = None if only is None else frozenset(only)
    models: dict[str, list[Target]] = {}
    for product, seen in sorted(shown, key=lambda row: order.index(row[0].name)):
        for served in seen.models:
            if allowed is None or served.info.id in allowed:
                models.setdefault(served.info.id, []).append(Target(product, seen.found, served))
    return Directory({model: tuple(rows) for model, rows in models.items()})
