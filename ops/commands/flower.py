"""`pendra flower`: Celery's Flower on this fleet, never without a password."""

from __future__ import annotations

import os
import sys

import click

_AUTH = "FLOWER_BASIC_AUTH"
_OPENS_THE_DOOR = {"FLOWER_UNAUTHENTICATED_API"}


@click.command("flower", context_settings={"ignore_unknown_options": True})
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5555, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option(
    "--basic-auth", metavar="USER:PASSWORD", help=f"Who may enter; better through ${_AUTH} or ${_AUTH}_FILE."
)
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
def command(address: str, port: int, basic_auth: str | None, more: tuple[str, ...]) -> None:
    """Watch the fleet in Flower. Options it does not know are passed on to Flower."""
    auth = basic_auth or os.environ.get(_AUTH) or _in_file()
    if not all(_is_user_and_password(part) for part in auth.split(",")):
        raise click.UsageError(
            f"Flower shows and controls the fleet, so it needs a password: set {_AUTH}=user:password, or pass "
            "--basic-auth user:password"
        )
    if any(option.partition("=")[0].replace("-", "_") == "__basic_auth" for option in more):
        raise click.UsageError("give --basic-auth once, before Flower's own options")
    argv = [sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--address={address}", f"--port={port}", *more]
    # through the environment: a password among the arguments would be in every `ps`
    env = {name: value for name, value in os.environ.items() if name not in _OPENS_THE_DOOR}
    os.execve(sys.executable, argv, env | {_AUTH: auth})  # noqa: S606  # a fixed argv, no shell


def _in_file() -> str:
    from tasks.settings_sources import from_file

    return from_file(f"{_AUTH}_FILE") or ""


def _is_user_and_password(text: str) -> bool:
    name, _, password = text.strip().partition(":")
    return bool(name and password)
