"""The Celery app, for workers and for everybody who talks to them (`celery -A tasks worker|inspect|flower`)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import click
from celery import Celery

from tasks.celery_config import configuration
from tasks.errors import ConfigError
from tasks.settings import load_settings


class PendraCelery(Celery):
    """Celery whose `worker` command starts our serving process (`worker.program`), loaded only when asked for."""

    @cached_property
    def Worker(self) -> Any:  # noqa: N802  # Celery's name
        return self.subclass_with_self("worker.program:Program")


def make_app(redis_url: str | None = None) -> PendraCelery:
    """A configured app. `redis_url` defaults to the settings'. Connects to nothing.

    Raises ConfigError when the settings cannot be used; under the `celery` command, which would print a traceback,
    it ends the process with the error's words.
    """
    app = PendraCelery("pendra")
    try:
        app.conf.update(configuration(redis_url or load_settings().redis_url))
    except ConfigError as exc:
        if click.get_current_context(silent=True) is None:
            raise
        raise SystemExit(f"Error: {exc.message}") from None
    return app
