"""`pendra models`: what is installed on this host or on others, and the commands that change it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ops.commands import model_changes, model_upkeep
from ops.commands.model_hosts import ALL_NODES, NODE, this_fleet

if TYPE_CHECKING:
    from worker.store.catalogue import Entry

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("models", invoke_without_command=True)
@_JSON
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """List the models installed on this host; install and remove them, here or elsewhere."""
    if ctx.invoked_subcommand is None:
        _list(as_json=as_json)


@command.command("list")
@_JSON
@NODE
@ALL_NODES
def list_(node: str | None, *, as_json: bool, all_nodes: bool) -> None:
    """List the installed models."""
    if node is None and not all_nodes:
        _list(as_json=as_json)
        return
    with this_fleet() as fleet:
        found = fleet.models(fleet.chosen(node))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for name, models in sorted(found.items()):
        for row in models:
            click.echo(f"{name:<20}  {_line(row['id'], row['capability'], row)}")


@command.command("dir")
def dir_() -> None:
    """Print the folder that models are installed to."""
    from tasks.settings import load_settings

    click.echo(load_settings().models_dir)


@command.command("show")
@click.argument("model_id", metavar="ID")
def show(model_id: str) -> None:
    """Print what is known of an installed model, or of one in the catalogue, as JSON."""
    from tasks.errors import NotFoundError
    from tasks.settings import load_settings
    from worker.store import sidecar
    from worker.store.catalogue import Catalogue
    from worker.store.curated import load_from

    settings = load_settings()
    entry = Catalogue(settings.models_dir).find(model_id)
    listed = load_from(settings.catalogue_url).find(model_id)
    if entry is None and listed is None:
        raise NotFoundError(f"{model_id} is neither installed in {settings.models_dir} nor in the catalogue")
    known = sidecar.read(entry.path) if entry else None
    shown = {
        "installed": _row(entry) | {"sidecar": known.model_dump() if known else None} if entry else None,
        "catalogue": listed.model_dump() if listed else None,
    }
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2))


for _more in (*model_changes.COMMANDS, *model_upkeep.COMMANDS):
    command.add_command(_more)
command.add_command(model_changes.uninstall, "remove")


# ------------------------------------------------------------------------------ parts


def _list(*, as_json: bool) -> None:
    from tasks.settings import load_settings
    from worker.store.catalogue import Catalogue

    store = load_settings().models_dir
    rows = [_row(entry) for entry in Catalogue(store).entries()]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        click.echo(_line(row["id"], row["purpose"], row | {"size_bytes": row["size"]}))
    if not rows:
        click.echo(f"no models in {store}; `pendra models install ID` fetches one", err=True)


def _line(model_id: str, purpose: str, row: dict[str, Any]) -> str:
    from worker.store.planner import human

    note = f"  {row['problem']}" if row["problem"] else ""
    return f"{model_id:<28}  {purpose:<13}  {row['quantisation'] or '?':<8}  {human(row['size_bytes'] or 0):>9}{note}"


def _row(entry: Entry) -> dict[str, Any]:
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
