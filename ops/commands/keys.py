"""`pendra keys`: the API keys of the local control plane, and the keys that a fleet's hosts share."""

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
    """Make, list and revoke API keys of the local control plane; show and rotate the fleet's own keys."""


@command.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="It may change the fleet (models, keys, identities), not only use it.")
@click.option("--models", metavar="IDS", help="It may use only these: ids or patterns like 'qwen3:*', with commas.")
@click.option("--rate", type=float, metavar="N", help="Requests a minute, at most.")
@click.option("--expires", metavar="WHEN", help="After a span (90d, 12h) or at a date (2027-01-31) it is void.")
@click.option(
    "--only-on", multiple=True, metavar="LABEL", help="Only on workers with this label (PENDRA_LABELS); repeatable."
)
@click.option("--label", "labels", multiple=True, help="A note for people and bills; may be given several times.")
def create(
    name: str,
    *,
    admin: bool,
    models: str | None,
    rate: float | None,
    expires: str | None,
    only_on: tuple[str, ...],
    labels: tuple[str, ...],
) -> None:
    """Make an API key called NAME and print it. Only its hash is kept: it cannot be shown again."""
    from ops.controlplane.scope import expiry, new_key_of

    wanted = new_key_of(
        {
            "name": name,
            "admin": admin,
            "models": [part.strip() for part in (models or "").split(",") if part.strip()],
            "rate": rate,
            "expires": expiry(expires, time.time()) if expires else None,
            "labels": labels,
            "only_on": only_on,
        }
    )
    with _store() as store:
        click.echo(store.create(wanted.name, admin=wanted.admin, scope=wanted.scope))


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List this host's workload and fleet keys by what they are known by, then the API keys. No secrets."""
    from ops import host_keys
    from tasks.settings import load_settings

    ours = host_keys.live(load_settings())
    with _store() as store:
        keys = store.list()
    if as_json:
        rows = [key.view(time.time()) for key in keys]
        shared = [{"id": key.id, "type": str(key.which), "use": key.use} for key in ours]
        click.echo(json.dumps([*shared, *({"type": "api", **row} for row in rows)], ensure_ascii=False, indent=2))
        return
    for host_key in ours:
        click.echo(f"{host_key.which:<8}  {host_key.id}  {host_key.use}")
    for key in keys:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(key.created))
        click.echo(f"{key.id}  {made}  {_standing(key):<7}  {key.name}{_limits(key)}")


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


@command.command("fingerprint")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fingerprint(*, as_json: bool) -> None:
    """Show what clients of private inference may pin: the live workload keys, the one in use first."""
    from ops import host_keys
    from tasks.settings import load_settings

    kids = host_keys.fingerprints(load_settings())
    click.echo(json.dumps(kids) if as_json else "\n".join(kids))


_WHICH = click.argument("which", type=click.Choice(["workload", "fleet"]), default="workload")


@command.command("rotate")
@_WHICH
def rotate(which: str) -> None:
    """Begin (or go on with) the rotation of the WORKLOAD key or the FLEET key; two keys are live meanwhile."""
    from ops import host_keys
    from tasks.settings import load_settings

    click.echo(host_keys.rotate(load_settings(), host_keys.Which(which)))


@command.command("retire")
@_WHICH
def retire(which: str) -> None:
    """End a rotation: only the key in use stays. What was sealed with the other does not open any more."""
    from ops import host_keys
    from tasks.settings import load_settings

    gone = host_keys.retire(load_settings(), host_keys.Which(which))
    click.echo(f"{', '.join(gone)} is gone" if gone else "only one key is live; nothing to retire")


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
    if not key.live(time.time()):
        return "revoked" if key.revoked is not None else "expired"
    return "admin" if key.admin else "live"


def _limits(key: ApiKey) -> str:
    """What a key may not do, in brackets; "" when nothing limits it."""
    scope = key.scope
    parts = [", ".join(scope.models)] if scope.models else []
    parts += [f"{scope.rate:g}/min"] if scope.rate is not None else []
    if scope.expires is not None:
        parts.append("until " + time.strftime("%Y-%m-%d %H:%M", time.localtime(scope.expires)))
    parts += [f"only on {', '.join(scope.only_on)}"] if scope.only_on else []
    return f"  ({'; '.join([*parts, *scope.labels])})" if parts or scope.labels else ""


@contextmanager
def _store() -> Iterator[KeyStore]:
    from contextlib import closing

    from ops.controlplane.db import Database
    from ops.controlplane.keystore import KeyStore
    from tasks.settings import load_settings

    with closing(Database(load_settings().home)) as db:
        yield KeyStore(db)
