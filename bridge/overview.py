"""What people see of the open jobs. Pure."""

from __future__ import annotations

from itertools import islice

from bridge.jobs import JobRecord
from bridge.ledger import Ledger
from tasks.contract import JobRow, Overview

MOST_ROWS = 500


def overview(ledger: Ledger, now: float) -> Overview:
    """The oldest jobs first, at most MOST_ROWS of them."""
    records = ledger.jobs.open.values()
    rows = tuple(_row(record, now) for record in islice(records, MOST_ROWS))
    return Overview(
        bridge_id=ledger.bridge_id,
        total=len(records),
        rows=rows,
        waiting=ledger.scheduler.depth,
        pace=ledger.pace.rates(now),
    )


def _row(record: JobRecord, now: float) -> JobRow:
    return JobRow(
        job_id=record.id,
        model=record.frame.model,
        state=str(record.state),
        attempt=record.attempt,
        worker_id=record.worker_id,
        age_s=round(now - record.arrived, 1),
        tokens=len(record.tokens),
    )
