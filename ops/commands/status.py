"""`pendra status`: what runs on this node."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.node_state import Process, Status

NOTHING_RUNS = 3  # exit status, as `systemctl status` has it
_PLAIN_WIDTH = 160  # where it is no terminal: a pipe has room


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", is_flag=True, help="Print nothing; exit status 1 unless a worker of this node is live.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, as_json: bool, check: bool, home: Path | None) -> None:
    """Show this node's processes, devices, models, slots and logs, and the fleet's other workers.

    Exit status 3 when nothing runs.
    """
    status, note = look(home)
    if check:
        sys.exit(0 if serves(status) else 1)
    if note:
        click.echo(note, err=True)
    if as_json:
        click.echo(status.model_dump_json(indent=2))
    elif status.processes:
        _print_table(status)
    if not status.processes:
        click.echo("nothing runs on this node; `pendra up` starts everything", err=True)
        sys.exit(NOTHING_RUNS)


def look(home: Path | None) -> tuple[Status, str]:
    """The status, and what could not be found out ("" = nothing)."""
    import redis

    from ops.node_state import assemble, live_workers, mask, read_state
    from tasks.redis_client import connect
    from tasks.settings import load_settings

    settings = load_settings(home=home)
    state = read_state(settings.home)
    url = state.redis_url if state else settings.redis_url
    try:
        with contextlib.closing(connect(url)) as client:
            workers, note = live_workers(client), ""
    except (redis.RedisError, OSError):
        workers, note = {}, f"Redis at {mask(url)} does not answer: models and slots are unknown"
    return assemble(state, workers, settings.worker_id, url), note if state else ""


def serves(status: Status) -> bool:
    """Whether a worker of this node holds its lease, which only a process that talks to Redis does. Pure."""
    return any(one.node is None and one.slots_total is not None for one in status.processes)


def _print_table(status: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    folders = sorted(
        {str(Path(process.log).parent) for process in status.processes if process.log and not process.node}
    )
    for name, value in (("node", status.node), ("API", status.api_url), ("Redis", status.redis_url)):
        console.print(f"{name:<6} {value or 'none here'}", highlight=False, soft_wrap=True)
    console.print(f"logs   {', '.join(folders)}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("role", "process", "worker", "device", "slots", "models", "log or host"):
        table.add_column(title, overflow="fold")
    for process in status.processes:
        table.add_row(*_cells(process))
    console.print(table)


def _cells(process: Process) -> tuple[str, ...]:
    slots = "" if process.slots_total is None else f"{process.slots_busy}/{process.slots_total}"
    pid = "down" if process.pid is None else str(process.pid)
    where = (process.role, pid, process.worker_id or "", process.device or "", slots)
    log = Path(process.log).name if process.log else ""
    return (*where, ", ".join(process.models), f"on {process.node}" if process.node else log)
