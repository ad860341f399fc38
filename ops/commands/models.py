"""`pendra models`: what is installed on this host or on others; install, remove, check, carry to other sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ops.fleet_models import FleetModels
    from worker.store.catalogue import Entry

_NODE = click.option("--node", metavar="N", help="On this host of the fleet, through its installer agent.")
_ALL = click.option("--all", "all_nodes", is_flag=True, help="On all hosts of the fleet.")
_BACKEND = click.option(
    "--backend", metavar="B", help="pendra, ollama, lmstudio or speaches [default: the catalogue's, else pendra]."
)
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
@_NODE
@_ALL
def list_(node: str | None, *, as_json: bool, all_nodes: bool) -> None:
    """List the installed models."""
    if node is None and not all_nodes:
        _list(as_json=as_json)
        return
    with _fleet() as fleet:
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


@command.command("install")
@click.argument("model_id", metavar="ID")
@click.option("--source", metavar="URL", help="Where the file is, for a model that the catalogue does not have.")
@click.option("--sha256", metavar="HEX", help="The hash it must have.")
@click.option("--variant", metavar="QUANT", help="Which quantisation [default: the catalogue's first].")
@click.option("--purpose", type=click.Choice(["chat", "embedding", "rerank", "image", "transcription"]))
@_BACKEND
@_NODE
@_ALL
@click.option("--wait", is_flag=True, help="With --node or --all: show progress until it is done. Ctrl-C cancels.")
@click.option("--discard", is_flag=True, help="When cancelled, throw away what came so far.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def install(
    model_id: str, node: str | None, *, all_nodes: bool, wait: bool, discard: bool, quiet: bool, **more: Any
) -> None:
    """Install a model: fetch, check its SHA-256, put in place."""
    from tasks.contract import InstallRequest

    request = InstallRequest(model=model_id, **more)
    if node is None and not all_nodes:
        _install_here(request, discard=discard, quiet=quiet)
        return
    with _fleet() as fleet:
        tasks = fleet.install(request, fleet.chosen(node))
        if wait:
            _follow(fleet, tasks, model_id, discard=discard, quiet=quiet)
        else:
            for name, task_id in tasks.items():
                click.echo(f"{name}  {task_id}")


@command.command("cancel")
@click.argument("target", metavar="TASK|ID")
@_NODE
@click.option("--discard", is_flag=True, help="Throw away what came so far.")
def cancel(target: str, node: str | None, *, discard: bool) -> None:
    """Cancel installs of the fleet, by task id or model id; what came stays for a later try."""
    with _fleet() as fleet:
        hit = fleet.cancel(target, None if node is None else [node], discard=discard)
    later = "" if hit else "; a task of that id that has not begun yet will not"
    click.echo(f"{hit} running installs cancelled{later}")


@command.command("uninstall")
@click.argument("model_id", metavar="ID")
@_NODE
@_ALL
@_BACKEND
@click.option("--force", is_flag=True, help="Let the jobs that use it end first, instead of refusing.")
def uninstall(model_id: str, node: str | None, backend: str | None, *, all_nodes: bool, force: bool) -> None:
    """Remove a model's files, or have its backend remove it; refuses while jobs use it."""
    if node is None and not all_nodes:
        from ops.local_removal import remove
        from tasks.settings import load_settings

        for path in remove(model_id, load_settings(), backend, force=force):
            click.echo(f"removed {path}")
        return
    with _fleet() as fleet:
        tasks = fleet.uninstall(model_id, fleet.chosen(node), force=force, backend=backend)
        _settle(fleet.follow(tasks, lambda _node, _progress: None))


command.add_command(uninstall, "remove")


@command.command("verify")
@click.argument("model_id", metavar="[ID]", required=False)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def verify(model_id: str | None, *, quiet: bool) -> None:
    """Hash what is installed on this host again, and compare."""
    from ops.progress import shown
    from tasks.settings import load_settings
    from worker.store.errors import ChecksumError
    from worker.store.planner import Stage
    from worker.store.upkeep import verify as verify_models

    bad = 0
    with shown("verify", quiet=quiet) as progress:
        for one in verify_models(load_settings().models_dir, model_id, lambda n: progress(Stage.CHECKING, n, None)):
            said = one.problem or ("ok" if one.hashed else "no sidecar: nothing to compare with")
            click.echo(f"{one.id:<28}  {said}")
            bad += bool(one.problem)
    if bad:
        raise ChecksumError(f"{bad} of the installed models are not what was installed")


@command.command("prune")
def prune() -> None:
    """Remove partial downloads that nobody continues, and files that were put aside."""
    from tasks.settings import load_settings
    from worker.store.planner import human
    from worker.store.upkeep import prune as prune_store

    for path, size in prune_store(load_settings().models_dir):
        click.echo(f"removed {path} ({human(size)})")


@command.command("export")
@click.argument("model_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--to", "to", required=True, type=click.Path(path_type=Path), help="A folder, or a .tar or .tar.gz file."
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def export(model_ids: tuple[str, ...], to: Path, *, quiet: bool) -> None:
    """Write installed models with their hashes to a folder or tar, for a site without a network."""
    from ops.progress import shown
    from tasks.settings import load_settings
    from worker.store import bundle

    with shown("export", quiet=quiet) as progress:
        for path in bundle.export(model_ids, load_settings().models_dir, to, progress):
            click.echo(path)


@command.command("import")
@click.argument("origin", metavar="PATH", type=click.Path(path_type=Path, exists=True))
@click.option("--quiet", is_flag=True, help="Show no progress.")
def import_(origin: Path, *, quiet: bool) -> None:
    """Install what `pendra models export` wrote, after checking every hash."""
    from ops.progress import shown
    from tasks.settings import load_settings
    from worker.store import bundle

    with shown("import", quiet=quiet) as progress:
        for made in bundle.bring_in(origin, load_settings().models_dir, progress):
            click.echo(f"{made.id} installed")


# ------------------------------------------------------------------------------ parts


def _fleet() -> Any:
    """The fleet's agents: those of the stack that runs from this home, else those of PENDRA_REDIS_URL."""
    import contextlib

    from ops.fleet_models import FleetModels
    from ops.node_state import read_state
    from tasks.settings import load_settings

    settings = load_settings()
    state = read_state(settings.home)
    return contextlib.closing(FleetModels(state.redis_url if state else settings.redis_url))


def _install_here(request: Any, *, discard: bool, quiet: bool) -> None:
    from ops.models import install_request
    from ops.progress import shown
    from tasks.settings import load_settings
    from worker.store.upkeep import discard_partials

    settings = load_settings()
    try:
        with shown(request.model, quiet=quiet) as progress:
            done = install_request(request, settings, progress)
    except KeyboardInterrupt:
        if discard:
            discard_partials(request.model, settings.models_dir)
        raise
    if not quiet:
        click.echo(f"{request.model} {'installed' if done.fetched else 'is installed already'}: {done.where}")


def _follow(fleet: FleetModels, tasks: dict[str, str], model_id: str, *, discard: bool, quiet: bool) -> None:
    from ops.progress import shown_many

    try:
        with shown_many(model_id, quiet=quiet) as told:
            outcomes = fleet.follow(tasks, told)
    except KeyboardInterrupt:
        for task_id in tasks.values():
            fleet.cancel(task_id, None, discard=discard)
        raise
    _settle(outcomes)


def _settle(outcomes: list[Any]) -> None:
    """Say how each host fared. Raises FleetError when not all did it."""
    from ops.fleet_models import FleetError

    for one in outcomes:
        if not one.error:
            said = one.result.get("path") or ", ".join(one.result.get("removed", ()))
            click.echo(f"{one.node}: done  {said}")
    if bad := [one for one in outcomes if one.error]:
        raise FleetError("; ".join(f"{one.node}: {one.error}" for one in bad))


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
