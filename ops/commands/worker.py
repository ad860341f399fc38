"""`pendra worker`: the worker processes of a fleet host."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("worker")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes [default: one per GPU, else one].")
@click.option("--slots", type=click.IntRange(1, 64), help="Requests at once per process [default: from memory].")
@click.option("--model", "models", multiple=True, metavar="ID", help="Load this model at once; repeatable.")
@click.option("--redis-url", metavar="URL", help="The fleet's Redis [default: $PENDRA_REDIS_URL].")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(
    workers: int | None, slots: int | None, models: tuple[str, ...], redis_url: str | None, home: Path | None
) -> None:
    """Serve models on this host's devices: one process per GPU, restarted when it dies."""
    from ops.foreground import Foreground, log_events
    from ops.home_lock import HomeLock
    from ops.launch import workers_only
    from ops.stack import Serving
    from tasks.settings import load_settings

    settings = load_settings(home=home, redis_url=redis_url)
    with HomeLock(settings.home, "pendra worker"):
        log_events(settings)
        launch = workers_only(settings, Serving(slots, models), workers=workers)
        Foreground(launch, start_attempts=None).run()
