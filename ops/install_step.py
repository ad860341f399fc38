"""Before the stack starts: models that were asked for and are missing come from the catalogue."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self

import click

from ops.controlplane import catalogue
from ops.controlplane.catalogue import CatalogueModel
from ops.narrator import say
from tasks.errors import NotFoundError
from tasks.settings import Settings
from worker.store.installer import find, install
from worker.store.planner import InstallSpec, Stage, human

_EVERY_S = 2.0  # between lines of progress where a line cannot be rewritten


def install_missing(settings: Settings, models: tuple[str, ...]) -> None:
    """Have all `models` in the store. Blocks while it downloads. Raises NotFoundError or StoreError."""
    for model_id in models:
        if find(model_id, settings.models_dir) is None:
            entry = catalogue.load().find(model_id)
            if entry is None:
                raise NotFoundError(
                    f"{model_id} is neither installed in {settings.models_dir} nor in the catalogue; "
                    "`pendra models` lists what is"
                )
            say(f"installing {model_id} ({human(entry.variants[0].size)}) into {settings.models_dir}")
            with Progress() as show:
                install(spec_of(entry), settings.models_dir, show)


def spec_of(entry: CatalogueModel) -> InstallSpec:
    """The first variant, which the catalogue means as the default. Pure."""
    variant = entry.variants[0]
    return InstallSpec(
        id=entry.id,
        source=variant.gguf_url,
        sha256=variant.gguf_sha256 or "",
        size=variant.size,
        purpose=entry.capability,
        licence=entry.licence,
    )


class Progress:
    """Shows an install's stages: one rewritten line on a terminal, a line every few seconds elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: Stage | None = None
        self._said = 0.0
        self._terminal = sys.stdout.isatty()

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        now = self._clock()
        if stage is self._stage and now - self._said < (0.1 if self._terminal else _EVERY_S):
            return
        self._stage, self._said = stage, now
        line = f"  {stage} {progress_words(done, total)}".rstrip()
        click.echo(f"\r{line:<60}" if self._terminal else line, nl=not self._terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._terminal and self._stage is not None:
            click.echo()


def progress_words(done: int, total: int | None) -> str:
    """`12.0 MB of 98.4 MB (12 %)`, as far as it is known. Pure."""
    if not total:
        return human(done) if done else ""
    return f"{human(done)} of {human(total)} ({100 * done // total} %)"
