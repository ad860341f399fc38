"""`pendra doctor`: what is wrong with this host, and what helps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.doctor.verdict import Verdict

_MARKS = {"ok": ("✓", "green"), "skipped": ("–", "bright_black"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, as_json: bool, home: Path | None) -> None:
    """Check key, clock, network, Redis, fleet, GPU, disk, models, backends. Exit status 1 when a check failed."""
    from ops.doctor.verdict import exit_code

    verdicts = look(home)
    if as_json:
        click.echo(
            json.dumps([verdict.model_dump(mode="json") for verdict in verdicts], ensure_ascii=False, indent=2)
        )
    else:
        for verdict in verdicts:
            _print(verdict)
        click.echo(_summary(verdicts))
    sys.exit(exit_code(verdicts))


def look(home: Path | None) -> list[Verdict]:
    """All verdicts. Blocks for some seconds."""
    from ops.doctor.checks import checks_of, without_settings
    from ops.doctor.examine import examine
    from tasks.errors import ConfigError
    from tasks.settings import load_settings

    try:
        checks = checks_of(load_settings(home=home))
    except ConfigError as exc:
        problems, checks = without_settings(exc)
        return [*problems, *examine(checks)]
    return examine(checks)


def _print(verdict: Verdict) -> None:
    mark, colour = _MARKS[verdict.level]
    click.echo(f"{click.style(mark, fg=colour)} {verdict.check:<9} {verdict.found}")
    if verdict.fix:
        click.echo(f"            → {verdict.fix}")


def _summary(verdicts: list[Verdict]) -> str:
    failures = sum(verdict.level == "failed" for verdict in verdicts)
    warnings = sum(verdict.level == "warning" for verdict in verdicts)
    return f"{failures} failed, {warnings} to look at, {len(verdicts)} in all"
