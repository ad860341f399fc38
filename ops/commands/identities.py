"""`pendra identities`: which bridges (by their Ed25519 keys) may connect to the local control plane."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.controlplane.registry import Registry


@click.group("identities")
def command() -> None:
    """Enrol, approve, list and revoke the bridges of the local control plane. It need not be stopped for that."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List all keys that were enrolled or asked to be let in."""
    with _registry() as registry:
        rows = registry.list()
    if as_json:
        click.echo(json.dumps([row.view() for row in rows], ensure_ascii=False, indent=2))
        return
    for row in rows:
        seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.last_seen)) if row.last_seen else "never seen      "
        click.echo(f"{row.id}  {row.status:<10}  {seen}  {row.worker_id or '-'}  {row.name}")


@command.command("enrol")
@click.argument("public_key")
@click.option("--name", default="", help="What people call it.")
def enrol(public_key: str, name: str) -> None:
    """Let the bridge with PUBLIC_KEY in (`pendra keys show` prints it on its host)."""
    with _registry() as registry:
        registry.register(public_key, name)
        row = registry.named(public_key)
    click.echo(f"{row.id} is {row.status}")


@command.command("approve")
@click.argument("identity", metavar="ID")
def approve(identity: str) -> None:
    """Let in a key that asked. ID is as in `pendra identities list`; compare its public key with its host's."""
    with _registry() as registry:
        row = registry.approve(identity)
    click.echo(f"{row.id} may connect: {row.public_key}")


@command.command("revoke")
@click.argument("identity", metavar="ID")
def revoke(identity: str) -> None:
    """Cut a bridge off, for good and within a second. Its host needs a new key to come back."""
    with _registry() as registry:
        row = registry.named(identity)
        registry.revoke(row.public_key)
    click.echo(f"{row.id} is revoked")


@contextmanager
def _registry() -> Iterator[Registry]:
    from contextlib import closing

    from ops.controlplane.db import Database
    from ops.controlplane.registry import Registry
    from tasks.settings import load_settings

    with closing(Database(load_settings().home)) as db:
        yield Registry(db)
