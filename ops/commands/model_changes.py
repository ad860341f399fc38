"""`pendra models install`, `cancel` and `uninstall`: on this host itself, on others through their agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ops.commands.model_hosts import ALL_NODES, NODE, this_fleet

if TYPE_CHECKING:
    from ops.fleet_models import FleetModels, Outcome
    from tasks.contract import InstallRequest

_BACKEND = click.option(
    "--backend", metavar="B", help="pendra, ollama, lmstudio or speaches [default: the catalogue's, else pendra]."
)


@click.command("install")
@click.argument("model_id", metavar="ID")
@click.option("--source", metavar="URL", help="Where the file is, for a model that the catalogue does not have.")
@click.option("--sha256", metavar="HEX", help="The hash it must have.")
@click.option("--variant", metavar="QUANT", help="Which quantisation [default: the catalogue's first].")
@click.option("--purpose", type=click.Choice(["chat", "embedding", "rerank", "image", "transcription"]))
@_BACKEND
@NODE
@ALL_NODES
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
    with this_fleet() as fleet:
        tasks = fleet.install(request, fleet.chosen(node))
        if wait:
            _follow(fleet, tasks, model_id, discard=discard, quiet=quiet)
        else:
            for name, task_id in tasks.items():
                click.echo(f"{name}  {task_id}")


@click.command("cancel")
@click.argument("target", metavar="TASK|ID")
@NODE
@click.option("--discard", is_flag=True, help="Throw away what came so far.")
def cancel(target: str, node: str | None, *, discard: bool) -> None:
    """Cancel installs of the fleet, by task id or model id; what came stays for a later try."""
    with this_fleet() as fleet:
        hit = fleet.cancel(target, None if node is None else [node], discard=discard)
    later = "" if hit else "; a task of that id that has not begun yet will not"
    click.echo(f"{hit} running installs cancelled{later}")


@click.command("uninstall")
@click.argument("model_id", metavar="ID")
@NODE
@ALL_NODES
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
    with this_fleet() as fleet:
        tasks = fleet.uninstall(model_id, fleet.chosen(node), force=force, backend=backend)
        _settle(fleet.follow(tasks, lambda _node, _progress: None))


COMMANDS = (install, cancel, uninstall)


# ------------------------------------------------------------------------------ parts


def _install_here(request: InstallRequest, *, discard: bool, quiet: bool) -> None:
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


def _settle(outcomes: list[Outcome]) -> None:
    """Say how each host fared. Raises FleetError when not all did it."""
    from ops.fleet_models import FleetError

    for one in outcomes:
        if not one.error:
            said = one.result.get("path") or ", ".join(one.result.get("removed", ()))
            click.echo(f"{one.node}: done  {said}")
    if bad := [one for one in outcomes if one.error]:
        raise FleetError("; ".join(f"{one.node}: {one.error}" for one in bad))
