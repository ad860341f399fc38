"""`pendra models`: what is installed on this host; install and remove."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worker.store.catalogue import Entry


@click.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """List the models installed on this host; install and remove them."""
    if ctx.invoked_subcommand is None:
        _list(as_json=as_json)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List the models installed on this host."""
    _list(as_json=as_json)


@command.command("dir")
def dir_() -> None:
    """Print the folder that models are installed to."""
    from tasks.settings import load_settings

    click.echo(load_settings().models_dir)


@command.command("install")
@click.argument("model_id", metavar="ID")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def install(model_id: str, *, quiet: bool) -> None:
    """Install a model of the catalogue on this host: fetch, check its SHA-256, put in place."""
    from ops.models import install as install_model
    from ops.progress import shown
    from tasks.settings import load_settings

    store = load_settings().models_dir
    with shown(model_id, quiet=quiet) as progress:
        done = install_model(model_id, store, progress)
    if not quiet:
        click.echo(f"{model_id} {'installed' if done.fetched else 'is installed already'}: {done.path}")


@command.command("uninstall")
@click.argument("model_id", metavar="ID")
def uninstall(model_id: str) -> None:
    """Remove a model's files from this host."""
    from tasks.settings import load_settings
    from worker.store.upkeep import uninstall as remove_model

    for path in remove_model(model_id, load_settings().models_dir):
        click.echo(f"removed {path}")


command.add_command(uninstall, "remove")


def _list(*, as_json: bool) -> None:
    from tasks.settings import load_settings
    from worker.store.catalogue import Catalogue
    from worker.store.planner import human

    store = load_settings().models_dir
    found = Catalogue(store).entries()
    if as_json:
        click.echo(json.dumps([_row(entry) for entry in found], ensure_ascii=False, indent=2))
        return
    for entry in found:
        kind = entry.info.quantisation if entry.info else None
        note = f"  {entry.problem.message}" if entry.problem else ""
        click.echo(f"{entry.id:<28}  {entry.purpose:<13}  {kind or '?':<8}  {human(entry.size_bytes):>9}{note}")
    if not found:
        click.echo(f"no models in {store}; `pendra models install ID` fetches one", err=True)


def _row(entry: Entry) -> dict[str, object]:
    info = entry.info
    return {
        "id": entry.id,
        "purpose": entry.purpose,
        "path": str(entry.path),
        "size": entry.size_bytes,
        "sha256": entry.label.sha256,
        "licence": entry.label.licence,
        "context_length": info.context_length if info else None,
        "parameter_size": info.parameter_size if info else None,
        "quantisation": info.quantisation if info else None,
        "problem": entry.problem.message if entry.problem else None,
    }
