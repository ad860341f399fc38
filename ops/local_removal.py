"""Removing a model from this host's own store, after its workers (if the stack runs) have let go of it."""

from __future__ import annotations

import uuid
from pathlib import Path

import click

from ops.node_state import read_state
from tasks.contract import InstallRequest
from tasks.errors import UnavailableError
from tasks.redis_client import connect
from tasks.settings import Settings
from worker.store.curated import PENDRA, backend_of, load_known, name_at
from worker.store.upkeep import uninstall
from worker.unloading import Unloading


def remove(model_id: str, settings: Settings, backend: str | None = None, *, force: bool) -> list[str]:
    """What was removed. Blocking. Raises NotFoundError, ModelInUseError, and what another backend says."""
    catalogue = load_known(settings.catalogue_url)
    whose = backend_of(model_id, backend, catalogue)
    if whose == PENDRA:
        return [str(path) for path in _from_store(model_id, settings, force=force)]
    from worker.external_models import ExternalModels

    name = name_at(whose, InstallRequest(model=model_id), catalogue)
    return [f"{name} from {whose} at {ExternalModels(settings).uninstall(whose, name)}"]


def _from_store(model_id: str, settings: Settings, *, force: bool) -> list[Path]:
    state = read_state(settings.home)
    client = connect(state.redis_url if state else settings.redis_url)
    unloading = Unloading(client, settings.worker_id)
    try:
        try:
            unloading.unload(model_id, force=force, request_id=uuid.uuid4().hex)
        except UnavailableError as exc:
            if exc.code != "redis_unavailable":
                raise
            click.echo(f"{exc.message}; no worker of this host can be asked", err=True)
        try:
            return uninstall(model_id, settings.models_dir)
        except BaseException:
            unloading.restore(model_id)
            raise
    finally:
        client.close()
