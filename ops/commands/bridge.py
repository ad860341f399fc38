"""`pendra bridge`: the link between the Pendra API and the fleet."""

from __future__ import annotations

import click


@click.command("bridge")
def command() -> None:
    """Run the bridge: dials the Pendra API and hands its jobs to the fleet's workers."""
    from bridge.main import run
    from tasks.settings import load_settings

    raise SystemExit(run(load_settings()))
