"""`pendra fleet`: a fleet of several hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.join.desk import Verdict
    from ops.join.token import Token

DEFAULT_PORT = 7443


@click.group("fleet")
def command() -> None:
    """Add hosts to this host's fleet."""


@command.command("token")
@click.option(
    "--hosts", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many hosts may use it."
)
@click.option("--minutes", type=click.IntRange(1, 1440), default=15, show_default=True, help="When it is void.")
@click.option("--address", metavar="HOST", help="As the new host dials this one [default: found].")
@click.option("--listen", metavar="ADDRESS", default="0.0.0.0", show_default=True, help="Listen here.")  # noqa: S104  # others must reach it
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 = any free.")
@click.option("--redis-url", metavar="URL", help="The fleet's Redis as the new host dials it [default: ours].")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CA of that Redis [default: the URL's ssl_ca_certs].",
)
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def token(  # one parameter an option
    *,
    hosts: int,
    minutes: int,
    address: str | None,
    listen: str,
    port: int,
    redis_url: str | None,
    ca: Path | None,
    home: Path | None,
) -> None:
    """Print a join token once, and hand this fleet's keys to the host that brings it. Stays until it was used.

    The new host gets the Redis URL with its password, the CA, the fleet key and the private-inference key, sealed for
    the token and straight from here: none of it passes through Redis.
    """
    from ops.join.issuing import Terms, issue
    from tasks.settings import load_settings

    terms = Terms(hosts, minutes, (listen, port), address, redis_url, ca)
    try:
        issue(load_settings(home=home), terms, ready=lambda made: _show(made, minutes), told=_told)
    except KeyboardInterrupt:
        click.echo("ended: the token is void", err=True)


def _show(made: Token, minutes: int) -> None:
    """The token alone on standard output, so that a script can read it."""
    where = f"{made.host} port {made.port}"
    click.echo(f"On the new host, within {minutes} minutes (it asks {where}):\n\n  pendra join TOKEN\n", err=True)
    click.echo(made.text)


def _told(node: str, address: str, verdict: Verdict) -> None:
    click.echo(f"{node} ({address}) {verdict}", err=True)
