"""`pendra up`: the whole stack on one machine, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("up")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the API listens on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Its port; 0 = any.")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes [default: one per GPU, else one].")
@click.option("--slots", type=click.IntRange(1, 64), help="Requests at once per process [default: from memory].")
@click.option("--model", "models", multiple=True, metavar="ID", help="Install if missing, load at once; repeatable.")
@click.option("--redis-url", metavar="URL", help="Use this Redis [default: start one on a Unix socket].")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
@click.option("--models-dir", type=click.Path(path_type=Path, file_okay=False), help="GGUF store [default: home's].")
def command(
    host: str,
    port: int,
    workers: int | None,
    slots: int | None,
    models: tuple[str, ...],
    redis_url: str | None,
    home: Path | None,
    models_dir: Path | None,
) -> None:
    """Run everything here: Redis, a local API, the bridge and the workers. Ctrl-C stops all of it."""
    from ops.foreground import Foreground, log_events
    from ops.home_lock import HomeLock
    from ops.install_step import install_missing
    from ops.launch import free_address, whole_stack
    from ops.narrator import say
    from ops.stack import Serving
    from tasks.settings import load_settings

    settings = load_settings(home=home, models_dir=models_dir, redis_url=redis_url)
    with HomeLock(settings.home, "pendra up"):
        log_events(settings)
        address = free_address(host, port)
        say(f"pendra up: node {settings.worker_id}, state in {settings.home}")
        install_missing(settings, models)
        own_redis = redis_url is None  # a fleet's Redis in the configuration is not for a stack of one machine
        launch = whole_stack(settings, address, Serving(slots, models), workers=workers, own_redis=own_redis)
        Foreground(launch).run()
