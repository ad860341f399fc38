"""`pendra models verify`, `prune`, `export` and `import`: looking after this host's store."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
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


@click.command("prune")
def prune() -> None:
    """Remove partial downloads that nobody continues, and files that were put aside."""
    from tasks.settings import load_settings
    from worker.store.planner import human
    from worker.store.upkeep import prune as prune_store

    for path, size in prune_store(load_settings().models_dir):
        click.echo(f"removed {path} ({human(size)})")


@click.command("export")
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


@click.command("import")
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


COMMANDS = (verify, prune, export, import_)
