"""The inference task: a message that names a job, run by the worker that pops it.

The message carries ids and sizes only; the job itself is claimed from Redis (docs/decisions/0001). It returns
nothing: everything about the job, failures included, travels as its events. An exception would travel in Celery's
events with its text and traceback, so what should not happen is logged by its place and raised without its words.
"""

from __future__ import annotations

import logging

from celery import shared_task

from tasks.celery_config import INFER
from tasks.errors import WorkerError
from tasks.logs import event, where

_LOG = logging.getLogger("pendra.tasks")


@shared_task(name=INFER, ignore_result=True)
def infer(job_id: str, attempt: int, model: str = "", size: int = 0) -> None:
    """Run one job. `model` and `size` are for the people who watch Flower; the worker does not need them."""
    from worker.process import current  # noqa: PLC0415  # only a worker has the engine

    del model, size
    process = current()
    try:
        process.serve(job_id, int(attempt))
    except Exception as exc:  # noqa: BLE001  # its text may quote the prompt
        event(_LOG, logging.ERROR, "task.crashed", job_id=job_id, error=type(exc).__name__, at=where(exc))
        raise WorkerError("the worker failed while it served this job; its log says where") from None
