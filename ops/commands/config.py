"""`pendra config`: show and change settings."""

from __future__ import annotations

import json
import os
import sys

import click


@click.group("config")
def command() -> None:
    """Show and change settings. KEY is a name as in the file or in the environment, any case."""


@command.command("set")
@click.argument("key")
@click.argument("value")
def set_(key: str, value: str) -> None:
    """Write KEY to the file. A VALUE of - is read from standard input, which keeps a secret out of the history."""
    from tasks import settings_edit as edit

    edit.named(key)  # before anything is asked for
    row = edit.set_value(key, _from_stdin(key) if value == "-" else value)
    click.echo(f"{row.name}: {row.text}" if row.text else f"{row.name} is empty", err=True)
    if os.environ.get(row.env):
        click.echo(f"note: {row.env} is set in this environment, and wins over the file", err=True)


@command.command("unset")
@click.argument("key")
def unset(key: str) -> None:
    """Remove KEY from the file, so that its default holds again."""
    from tasks.settings_edit import unset as remove

    click.echo(f"{remove(key)} is not in the file any more", err=True)


@command.command("get")
@click.argument("key")
@click.option("--show-secret", is_flag=True, help="Print a key in the clear.")
def get(key: str, *, show_secret: bool) -> None:
    """Print one setting's value. Lists are printed as JSON."""
    from tasks import settings_edit as edit
    from tasks.settings import load_settings

    name = edit.named(key)
    settings = load_settings()
    value = edit.plain(getattr(settings, name))
    if not show_secret:
        value = next(row.value for row in edit.rows(settings) if row.name == name)
    click.echo(json.dumps(value, ensure_ascii=False) if isinstance(value, list) else "" if value is None else value)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """Print every setting, its value and where it comes from. Keys and passwords are masked."""
    from tasks.settings import load_settings
    from tasks.settings_edit import rows

    found = rows(load_settings())
    if as_json:
        listed = [{"name": r.name, "env": r.env, "value": r.value, "source": r.source} for r in found]
        click.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        return
    wide = max(len(row.name) for row in found)
    for row in found:
        click.echo(f"{row.name:<{wide}}  {row.source:<11}  {row.text}".rstrip())


@command.command("path")
def path() -> None:
    """Print where the file is (or will be)."""
    from tasks.settings_edit import current_home
    from tasks.settings_file import path_in

    click.echo(path_in(current_home()))


def _from_stdin(key: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(key, hide_input=True, err=True))
    return sys.stdin.read().strip()
