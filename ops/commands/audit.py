"""`pendra audit`: is a bridge's audit log whole, and the checkpoints that prove it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bridge.audit_chain import Checkpoint
    from bridge.audit_verify import Report
    from tasks.settings import Settings

_LOG = click.option("--log", "name", help="Which log: the WORKER_ID of its bridge. This host's own by default.")


@click.group("audit")
def command() -> None:
    """Check audit logs. They hold no content: who, when, which model and worker, how many tokens, how it ended."""


@command.command("verify")
@_LOG
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where the logs are (PENDRA_AUDIT_DIR).")
@click.option(
    "--checkpoints",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of checkpoints from elsewhere, as `pendra audit checkpoints` prints them on the API's host.",
)
@click.option(
    "--public-key", "public_keys", multiple=True, help="Trust checkpoints of this key (`pendra keys show`)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    name: str | None, folder: Path | None, files: tuple[Path, ...], public_keys: tuple[str, ...], *, as_json: bool
) -> int:
    """Find out whether lines were changed, removed, moved or cut off. Exit status 1 when something is wrong."""
    from bridge import audit_verify
    from tasks.settings import load_settings

    settings = load_settings()
    where = (folder or settings.audit_dir) / (name or settings.worker_id)
    trusted = set(public_keys) or _own_keys(settings)
    checkpoints = {*_checkpoints(settings, where, files)}
    report = audit_verify.verify(_lines(where), sorted(checkpoints, key=lambda one: one.line), trusted)
    click.echo(json.dumps(_json(report), indent=2) if as_json else "\n".join(_words(where, report)))
    return 0 if report.whole else 1


@command.command("checkpoints")
@_LOG
def checkpoints(name: str | None) -> None:
    """Print what bridges sent to this host's control plane, one JSON object a line: the proof from elsewhere."""
    from tasks.settings import load_settings

    for one in _kept_here(load_settings(), name):
        click.echo(one.model_dump_json())


def _lines(folder: Path) -> Iterator[bytes]:
    from bridge.audit_files import files_of, lines_of
    from tasks.errors import NotFoundError

    found = files_of(folder)
    if not found:
        raise NotFoundError(f"there is no audit log in {folder}; name it with --dir and --log", code="no_audit_log")
    for path in found:
        yield from lines_of(path)


def _checkpoints(settings: Settings, folder: Path, files: Iterable[Path]) -> Iterator[Checkpoint]:
    """From beside the log, from its second copy, from a control plane on this host, and from the named files."""
    from bridge.audit_log import CHECKPOINTS

    beside = [path for path in (folder / CHECKPOINTS, settings.audit_checkpoints) if path and path.exists()]
    for path in [*beside, *files]:
        yield from _read(path, folder.name)
    yield from _kept_here(settings, folder.name)


def _read(path: Path, name: str) -> Iterator[Checkpoint]:
    from pydantic import ValidationError

    from bridge.audit_chain import Checkpoint
    from tasks.errors import ConfigError

    try:
        rows = path.read_text(encoding="utf-8").split("\n")
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from None
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            one = Checkpoint.model_validate_json(row)
        except ValidationError:
            raise ConfigError(f"{path}, line {number}: no checkpoint of an audit log") from None
        if one.log == name:
            yield one


def _kept_here(settings: Settings, name: str | None) -> Iterable[Checkpoint]:
    from ops.controlplane.checkpoints import CheckpointLog
    from ops.controlplane.db import FILE_NAME, Database

    if not (settings.home / FILE_NAME).exists():
        return ()
    with closing(Database(settings.home)) as db:
        return CheckpointLog(db).all(name)


def _own_keys(settings: Settings) -> set[str]:
    """The public key of this host's bridge. Raises ConfigError when it has none."""
    from bridge.identity import Identity
    from ops.launch import BRIDGE_KEY_FILE
    from tasks.errors import ConfigError

    path = settings.home / BRIDGE_KEY_FILE
    if settings.gpu_worker_private_key is not None:
        seed = settings.gpu_worker_private_key.get_secret_value()
    elif path.exists():
        seed = path.read_text(encoding="utf-8")
    else:
        raise ConfigError("this host has no worker key; say with --public-key whose checkpoints to trust")
    return {Identity.from_base64(seed).public_key}


def _json(report: Report) -> dict[str, object]:
    return {
        "whole": report.whole,
        "first": report.first,
        "lines": report.lines,
        "last": report.head.line,
        "head": report.head.digest,
        "checkpoints": report.checkpoints,
        "uncovered": report.uncovered,
        "findings": [{"fault": str(one.fault), "line": one.line, "words": one.words} for one in report.findings],
    }


def _words(folder: Path, report: Report) -> Iterator[str]:
    yield (
        f"{folder}: lines {report.first} to {report.head.line}, {report.checkpoints} checkpoints, "
        f"{report.uncovered} lines after the newest"
    )
    for one in report.findings:
        yield f"{one.fault}: line {one.line}: {one.words}"
    yield "the log is whole" if report.whole else "the log is NOT whole"
