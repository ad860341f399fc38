"""`pendra demo`: starts the whole stack, streams one answer to the terminal, shows its timings, stops."""

from __future__ import annotations

from pathlib import Path

import click

MODEL = "smollm2:135m"
QUESTION = "Explain in three sentences why the sky is blue."


@click.command("demo")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="State folder [default: ~/.pendra].")
@click.option("--models-dir", type=click.Path(path_type=Path, file_okay=False), help="GGUF store [default: home's].")
@click.option("--question", default=QUESTION, show_default=True, help="What to ask.")
def command(home: Path | None, models_dir: Path | None, question: str) -> None:
    """Start everything on a free port, stream one answer of a small real model, stop. Exit status 0 = it works."""
    from ops.demo import run
    from tasks.settings import load_settings

    run(load_settings(home=home, models_dir=models_dir), MODEL, question)
