"""`pendra controlplane`: a stand-in for the Pendra API."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("controlplane")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(host: str, port: int, home: Path | None) -> None:
    """Run a local stand-in for the Pendra API: development, tests, air-gapped sites."""
    from ops.controlplane.server import run
    from tasks.logs import configure
    from tasks.settings import load_settings

    settings = load_settings(home=home)
    configure(settings, "controlplane")
    raise SystemExit(run(host, port, settings.home, settings.catalogue_url))
