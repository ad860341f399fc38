"""The Celery app, for workers and for everybody who talks to them (`celery -A tasks worker|inspect|flower`)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from celery import Celery

from tasks.celery_config import configuration
from tasks.settings import load_settings


class PendraCelery(Celery):
    """Celery whose `worker` command starts our serving process (`worker.program`), loaded only when asked for."""

    @cached_property
    def Worker(self) -> Any:  # noqa: N802  # Celery's name
        return self.subclass_with_self("worker.program:Program")


def make_app(redis_url: str | None = None) -> PendraCelery:
    """A configured app. `redis_url` defaults to the settings'. Connects to nothing.

    Raises ConfigError when the settings cannot be used.
    """
    app = PendraCelery("pendra")
    app.conf.update(configuration(redis_url or load_settings().redis_url))
    return app
