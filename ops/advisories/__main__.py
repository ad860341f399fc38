"""`python -m ops.advisories check` and `collect`: what `make audit` and `make advisories` run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ops.advisories.collect import collect, our_packages, read, write
from ops.advisories.records import Book, Kept, read_kept
from ops.advisories.scan import OSV_SERVICE, PYPI_SERVICE, Service, UnansweredError, installed, must_answer, osv_at
from ops.advisories.scan import pinned as scan_pinned
from ops.advisories.service import serving
from ops.advisories.verdict import Verdict, lines, verdict
from tasks.errors import PendraError

CLEAN, VULNERABLE, UNJUDGED = 0, 1, 2


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--stored", is_flag=True, help="ask no live service, only the advisories kept and collected here")
@click.option("--requirements", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="judge a file of name==version lines instead of what is installed")  # fmt: skip
def check(*, stored: bool, requirements: Path | None) -> None:
    """Judge what is installed. Exit status 0: clean, 1: vulnerable, 2: nobody could judge."""
    kept = read_kept()
    with _services(kept, stored=stored) as services:
        said = _first_answer(services, kept, requirements)
    if said is None:
        click.echo("no service knows a version that is known to be vulnerable: nothing was judged", err=True)
        sys.exit(UNJUDGED)
    for line in lines(said):
        click.echo(line)
    sys.exit(VULNERABLE if said.findings else CLEAN)


@main.command(name="collect")
@click.argument("clone", type=click.Path(path_type=Path, exists=True, file_okay=False))
def collect_from(clone: Path) -> None:
    """Keep what CLONE, a public advisory database, says about our packages, for `check` without a network."""
    found = collect(clone, our_packages())
    click.echo(f"{write(found)}: {len(found.advisories)} advisories of {found.date[:10] or 'no known date'}")


@contextmanager
def _services(kept: Kept, *, stored: bool) -> Iterator[tuple[Service, ...]]:
    """Those to ask, in order; ours answers until the block ends."""
    collected = read()
    book = Book([*kept.advisories, *(each for database in collected for each in database.advisories)])
    ages = [f"{database.source} of {database.date[:10] or 'no known date'}" for database in collected]
    name = f"{len(book)} advisories stored here ({', '.join([f'our own list up to {kept.reaches}', *ages])})"
    with serving(book) as url:
        yield (*(() if stored else (PYPI_SERVICE, OSV_SERVICE)), osv_at(name, url))


def _first_answer(services: tuple[Service, ...], kept: Kept, requirements: Path | None) -> Verdict | None:
    for service in services:
        try:
            must_answer(service)
            report = scan_pinned(service, requirements) if requirements else installed(service)
        except UnansweredError as exc:
            click.echo(f"no verdict of {service.name}: {exc.message}", err=True)
        else:
            return verdict(service.name, report, kept.accepted)
    return None


if __name__ == "__main__":
    try:
        main()
    except PendraError as exc:
        click.echo(exc.message, err=True)
        sys.exit(UNJUDGED)
