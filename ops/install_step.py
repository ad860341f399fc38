"""Before the stack starts: models that were asked for and are missing come from the catalogue."""

from __future__ import annotations

from ops.models import install_request
from ops.narrator import say
from ops.progress import shown
from tasks.contract import InstallRequest
from tasks.errors import NotFoundError
from tasks.settings import Settings
from worker.store.curated import load_from
from worker.store.installer import find
from worker.store.planner import human


def install_missing(settings: Settings, models: tuple[str, ...]) -> None:
    """Have all `models` in the store. Blocks while it downloads. Raises NotFoundError or StoreError."""
    for model_id in models:
        if find(model_id, settings.models_dir) is not None:
            continue
        entry = load_from(settings.catalogue_url).find(model_id)
        if entry is None:
            raise NotFoundError(
                f"{model_id} is neither installed in {settings.models_dir} nor in the catalogue; "
                "`pendra models` lists what is"
            )
        size = entry.variants[0].size
        say(f"installing {model_id}{f' ({human(size)})' if size else ''} into {settings.models_dir}")
        with shown(model_id) as progress:
            install_request(InstallRequest(model=model_id), settings, progress)
