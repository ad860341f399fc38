"""Models by their catalogue id on this host: what to install for an id, and doing it."""

from __future__ import annotations

from pathlib import Path

from tasks.contract import InstallRequest
from tasks.errors import NotFoundError
from tasks.settings import Settings
from worker.store.curated import Catalogue, load, load_from, spec_of
from worker.store.curated import spec_for as spec_of_request
from worker.store.download import Progress
from worker.store.installer import Installed
from worker.store.installer import install as install_spec
from worker.store.planner import InstallSpec
from worker.store.run import Transfer
from worker.store.throttle import Throttle


def spec_for(model_id: str, catalogue: Catalogue | None = None) -> InstallSpec:
    """What to install for a catalogue id: its first variant. Raises NotFoundError that lists the catalogue."""
    known = catalogue or load()
    model = known.find(model_id)
    if model is None:
        ids = ", ".join(entry.id for entry in known.data)
        raise NotFoundError(f"the catalogue has no model {model_id}; it has {ids}")
    return spec_of(model)


def install(model_id: str, store: Path, progress: Progress) -> Installed:
    """Have a catalogue model in `store`. Blocking; quick when it is there. Raises NotFoundError or StoreError."""
    return install_spec(spec_for(model_id), store, progress)


def install_request(request: InstallRequest, settings: Settings, progress: Progress) -> Installed:
    """Have what a request means in this host's store. Blocking. Raises NotFoundError or StoreError."""
    catalogue = load_from(settings.catalogue_url) if request.source is None and settings.catalogue_url else load()
    transfer = Transfer(throttle=Throttle(settings.download_limit))
    return install_spec(spec_of_request(request, catalogue), settings.models_dir, progress, transfer=transfer)
