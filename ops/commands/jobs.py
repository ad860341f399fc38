"""`pendra jobs`: what the bridges have open, and where it runs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import redis

    from tasks.contract import Overview

_PLAIN_WIDTH = 160  # where it is no terminal: a pipe has room


@click.command("jobs")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a bridge.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, as_json: bool, home: Path | None) -> None:
    """Show the open requests: waiting, being dispatched, or running, on which worker and at which attempt.

    The view is at most a second or two old and holds nothing of what was asked or answered.
    """
    from ops.node_state import read_state
    from tasks.redis_client import connect
    from tasks.settings import load_settings

    settings = load_settings(home=home)
    state = read_state(settings.home)
    with contextlib.closing(connect(state.redis_url if state else settings.redis_url)) as client:
        views = overviews(client)
    if as_json:
        for view in views:
            click.echo(view.model_dump_json())
    elif any(view.rows for view in views):
        _print_table(views)
    else:
        click.echo("no request is open" if views else "no bridge reports; is one running?", err=True)


def overviews(client: redis.Redis) -> list[Overview]:
    """Each bridge's newest report. Raises UnavailableError when Redis does not answer."""
    import redis

    from tasks import keys
    from tasks.contract import Overview
    from tasks.errors import UnavailableError

    try:
        names = sorted(client.scan_iter(keys.overview("*"), count=1000))
        texts = client.mget(names) if names else []
    except (redis.RedisError, OSError) as exc:
        raise UnavailableError("Redis does not answer", code="redis_unavailable") from exc
    return [Overview.model_validate_json(text) for text in texts if text]


def _print_table(views: list[Overview]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("request", "model", "state", "attempt", "worker", "age", "tokens", "bridge"):
        table.add_column(title, overflow="fold")
    for view in views:
        for row in view.rows:
            told = (row.job_id, row.model, row.state, str(row.attempt), row.worker_id, f"{row.age_s:.1f} s")
            table.add_row(*told, str(row.tokens), view.bridge_id)
    console.print(table)
    for view in views:
        if view.total > len(view.rows):
            console.print(f"… and {view.total - len(view.rows)} more on {view.bridge_id}")
