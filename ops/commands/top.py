"""`pendra top`: the fleet in a terminal, every second."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import redis
    from rich.console import Console, RenderableType

    from ops.fleet_reading import Reading
    from ops.keypress import Keys

NOBODY = 3  # exit status, as that of `pendra status`
_PLAIN_WIDTH = 160  # where it is no terminal: a pipe has room
_PAST = 40
_QUIT = {"q", "Q", "\x04"}  # also Ctrl-D


@click.command("top")
@click.option("--once", is_flag=True, help="Print it once and end, as it is done where there is no terminal.")
@click.option(
    "--every", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, once: bool, every: float, home: Path | None) -> int:
    """Show workers, slots, models, the queue and tokens a second of the whole fleet, live. q ends it.

    It needs nothing but Redis, and shows nothing of what was asked or answered. With --once the exit status is 3 when
    no worker is there.
    """
    from rich.console import Console

    from ops.fleet_reading import read_fleet
    from ops.node_state import read_state
    from tasks.redis_client import connect
    from tasks.settings import load_settings

    settings = load_settings(home=home)
    state = read_state(settings.home)
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PLAIN_WIDTH)
    with contextlib.closing(connect(state.redis_url if state else settings.redis_url)) as client:
        if once or not terminal:
            return _print_once(read_fleet(client), console)
        from ops.keypress import Keys

        with Keys() as keys, contextlib.suppress(KeyboardInterrupt):
            watch(client, console, keys, every)
    return 0


def _print_once(reading: Reading, console: Console) -> int:
    from ops.fleet_screen import screen

    console.print(screen(reading))
    return 0 if reading.workers else NOBODY


def watch(client: redis.Redis, console: Console, keys: Keys, every: float) -> None:
    """Until q is pressed. A Redis that does not answer is shown, and asked again."""
    from rich.live import Live

    look = looker(client)
    with Live(look(), console=console, screen=True, auto_refresh=False) as live:
        while keys.wait(every) not in _QUIT:
            live.update(look(), refresh=True)


def looker(client: redis.Redis) -> Callable[[], RenderableType]:
    """What gives the next picture at each call. It keeps the last reading for when Redis is away."""
    from ops.fleet_reading import Reading, read_fleet
    from ops.fleet_screen import screen
    from tasks.errors import UnavailableError

    last = Reading(0.0, (), ())
    past: deque[float] = deque(maxlen=_PAST)

    def look() -> RenderableType:
        nonlocal last
        try:
            last, note = read_fleet(client), ""
        except UnavailableError as exc:
            note = f"{exc.message}; what you see is old"
        past.append(0.0 if note else last.tokens_per_second)
        return screen(last, tuple(past), note)

    return look
