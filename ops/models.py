"""Models by their catalogue id on this host: what to install for an id, and doing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ops.progress import Progress
from tasks.contract import InstallRequest
from tasks.errors import NotFoundError
from tasks.settings import Settings
from worker.store.curated import PENDRA, Catalogue, backend_of, load, load_from, name_at, spec_of
from worker.store.curated import spec_for as spec_of_request
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


@dataclass(frozen=True, slots=True)
class Done:
    """`where`: the file, or the server that has the model now. `fetched`: False when it was there already."""

    where: str
    fetched: bool


def install_request(request: InstallRequest, settings: Settings, progress: Progress) -> Done:
    """Have what a request means on this host: in its store, or in the backend it names. Blocking.

    Raises NotFoundError, StoreError, and for another backend what `worker.external_models` raises.
    """
    catalogue = load_from(settings.catalogue_url) if request.source is None and settings.catalogue_url else load()
    backend = backend_of(request.model, request.backend, catalogue)
    if backend != PENDRA:
        from worker.external_models import ExternalModels

        pulled = ExternalModels(settings).install(backend, name_at(backend, request, catalogue), progress)
        return Done(f"{pulled.name} in {pulled.backend} at {pulled.url}", pulled.fetched)
    transfer = Transfer(throttle=Throttle(settings.download_limit))
    done = install_spec(spec_of_request(request, catalogue), settings.models_dir, progress, transfer=transfer)
    return Done(str(done.path), done.fetched)
