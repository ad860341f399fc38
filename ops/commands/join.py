"""`pendra join`: make this host one of a fleet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tasks.settings import Settings


@click.command("join")
@click.argument("token", metavar="TOKEN")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="A label of this host's workers; repeatable.")
@click.option("--force", is_flag=True, help="Leave the fleet this host is in: replace its keys.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, token: str, labels: tuple[str, ...], force: bool, home: Path | None) -> None:
    """Get a fleet's Redis URL and keys with TOKEN (from `pendra fleet token`; - = standard input), write them (0600).

    Afterwards `pendra worker` serves this host's devices in that fleet.
    """
    from ops.cli import version
    from ops.join import client, target
    from ops.join.token import parse
    from tasks.settings import load_settings

    made = parse(sys.stdin.readline() if token == "-" else token)  # noqa: S105  # the usual sign for stdin
    settings = load_settings(home=home, labels=labels or None)
    if not force:
        target.check_room(settings)
    grant = client.fetch(made, settings.worker_id, version())
    for path in target.write(settings, grant, settings.labels if labels else ()):
        click.echo(f"wrote {path}")
    _try_redis(load_settings(home=home))
    click.echo(f"this host ({settings.worker_id}) is in the fleet; start it with `pendra worker`")


def _try_redis(settings: Settings) -> None:
    """Raises UnavailableError when the fleet's Redis does not answer this host."""
    import contextlib

    import redis

    from ops.node_state import mask
    from tasks.errors import UnavailableError
    from tasks.redis_client import connect

    try:
        with contextlib.closing(connect(settings.redis_url)) as link:
            link.ping()
    except (redis.RedisError, OSError) as exc:
        raise UnavailableError(
            f"everything is written, but Redis at {mask(settings.redis_url)} does not answer this host "
            f"({type(exc).__name__}); open the way to it, then start `pendra worker`",
            code="redis_unavailable",
        ) from None
