"""The contract between bridges and workers, and the Celery app.

The contract modules (`contract`, `errors`, `events`, `keys`, `scripts`, `sealing`) are pure and load no Celery;
`app` is made at first use, so that `celery -A tasks …` works all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    app: Celery


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tasks.celery_app import make_app  # noqa: PLC0415  # lazy is the point

    globals()["app"] = made = make_app()
    return made
