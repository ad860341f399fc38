"""The inference task: a message that names a job, run by the worker that pops it.

The message carries ids and sizes only; the job itself is claimed from Redis (docs/decisions/0001). It never raises
and returns nothing: everything about the job, failures included, travels as its events.
"""

from __future__ import annotations

from celery import shared_task

from tasks.celery_config import INFER


@shared_task(name=INFER, ignore_result=True)
def infer(job_id: str, attempt: int, model: str = "", size: int = 0) -> None:
    """Run one job. `model` and `size` are for the people who watch Flower; the worker does not need them."""
    from worker.process import current  # noqa: PLC0415  # only a worker has the engine

    del model, size
    current().serve(job_id, int(attempt))
