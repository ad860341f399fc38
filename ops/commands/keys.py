"""`pendra keys`: the API keys of the local control plane, and what this host's own keys are known by."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.controlplane.keystore import ApiKey, KeyStore


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys of the local control plane; show this host's public keys."""


@command.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="It may install and remove models, not only use them.")
def create(name: str, *, admin: bool) -> None:
    """Make an API key called NAME and print it. Only its hash is kept: it cannot be shown again."""
    with _store() as store:
        click.echo(store.create(name, admin=admin))


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List the API keys: id, name, when made, whether it is live, an admin's, or revoked."""
    with _store() as store:
        keys = store.list()
    if as_json:
        rows = [
            {"id": k.id, "name": k.name, "created": k.created, "revoked": k.revoked, "admin": k.admin} for k in keys
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for key in keys:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(key.created))
        click.echo(f"{key.id}  {made}  {_standing(key):<7}  {key.name}")


@command.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Revoke an API key at once. ID is as in `pendra keys list`."""
    from tasks.errors import NotFoundError

    with _store() as store:
        if not store.revoke(key_id):
            raise NotFoundError(
                f"there is no live API key {key_id}; `pendra keys list` shows them", code="key_not_found"
            )
    click.echo(f"{key_id} is revoked")


@command.command("show")
def show() -> None:
    """Show what this host's keys are known by: the worker key's public half, the fleet keys' ids. No secrets."""
    from bridge.identity import Identity
    from tasks.errors import ConfigError
    from tasks.settings import load_settings

    settings = load_settings()
    seed = settings.gpu_worker_private_key
    click.echo(
        f"worker public key  {Identity.from_base64(seed.get_secret_value()).public_key if seed else '(no key set)'}"
    )
    try:
        click.echo(f"fleet key ids      {', '.join(key.id.hex() for key in settings.fleet_keys())}")
    except ConfigError as exc:
        click.echo(f"fleet key ids      ({exc.message})")


def _standing(key: ApiKey) -> str:
    if key.revoked:
        return "revoked"
    return "admin" if key.admin else "live"


@contextmanager
def _store() -> Iterator[KeyStore]:
    from contextlib import closing

    from ops.controlplane.db import Database
    from ops.controlplane.keystore import KeyStore
    from tasks.settings import load_settings

    with closing(Database(load_settings().home)) as db:
        yield KeyStore(db)
