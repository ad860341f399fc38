"""`pendra backends`: Ollama, vLLM, LM Studio and Speaches, as this host and the fleet's others find them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.backends import NodeBackends
    from tasks.contract import BackendReport, ModelInfo

_PLAIN_WIDTH = 160  # where it is no terminal: a pipe has room


@click.command("backends")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
def command(*, as_json: bool, home: Path | None) -> None:
    """Show the external servers found: where, version, latency, models; or why not. Works without a running fleet."""
    from ops.backends import everywhere
    from tasks.settings import load_settings

    nodes, note = everywhere(load_settings(home=home))
    if note:
        click.echo(note, err=True)
    if as_json:
        click.echo(json.dumps([node.model_dump(mode="json") for node in nodes], ensure_ascii=False, indent=2))
        return
    for node in nodes:
        _print(node)


def _print(node: NodeBackends) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    console.print(f"{node.node}  (told by {node.told_by})", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("backend", "state", "where", "version", "ms", "models"):
        table.add_column(title, overflow="fold")
    for row in node.backends:
        table.add_row(*_cells(row))
    console.print(table)
    for row in node.backends:
        for model in row.models:
            console.print(f"  {row.product:<9} {model_line(model)}", highlight=False, markup=False, soft_wrap=True)
        if row.why and row.state != "off":
            console.print(f"  {row.product:<9} {row.why}", highlight=False, markup=False, soft_wrap=True)


def _cells(row: BackendReport) -> tuple[str, ...]:
    where = row.url or ("" if row.configured else "looked for")
    latency = "" if row.latency_ms is None else f"{row.latency_ms:.0f}"
    return (row.product, str(row.state), where, row.version, latency, str(len(row.models)) if row.models else "")


def model_line(model: ModelInfo) -> str:
    """A model in one line: id, what it is for, size, quantisation, context, features. Pure."""
    context = f"context {model.context_length}" if model.context_length else ""
    parts = (
        model.capability,
        model.family,
        model.parameter_size,
        model.quantisation,
        context,
        *(model.features or ()),
    )
    return f"{model.id}: {', '.join(part for part in parts if part)}"
