"""Models by their catalogue id: what to install for an id, and doing it."""

from __future__ import annotations

from pathlib import Path

from ops.controlplane.catalogue import Catalogue, load
from tasks.errors import NotFoundError
from worker.store.download import Progress
from worker.store.installer import Installed
from worker.store.installer import install as install_spec
from worker.store.planner import InstallSpec


def spec_for(model_id: str, catalogue: Catalogue | None = None) -> InstallSpec:
    """What to install for a catalogue id: its first variant. Raises NotFoundError that lists the catalogue."""
    known = catalogue or load()
    model = known.find(model_id)
    if model is None:
        ids = ", ".join(entry.id for entry in known.data)
        raise NotFoundError(f"the catalogue has no model {model_id}; it has {ids}")
    variant = model.variants[0]
    return InstallSpec(
        id=model.id,
        source=variant.gguf_url,
        sha256=variant.gguf_sha256 or "",
        size=variant.size,
        purpose=model.capability,
        licence=model.licence,
    )


def install(model_id: str, store: Path, progress: Progress) -> Installed:
    """Have a catalogue model in `store`. Blocking; quick when it is there. Raises NotFoundError or StoreError."""
    return install_spec(spec_for(model_id), store, progress)
