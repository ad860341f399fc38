"""The installs on disk, so that an API that is started again still knows of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pydantic import ValidationError

from ops.controlplane.db import Database
from ops.controlplane.install_record import InstallRecord
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")


class InstallLog:
    """Each call is one statement on the local file. What is written is what was asked, and the end; not each step."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def load(self, newest: int) -> list[InstallRecord]:
        """The oldest first. What a newer build wrote and we cannot read is left out (and logged)."""
        rows = self._db.all("SELECT record FROM installs ORDER BY created DESC, id LIMIT ?", newest)
        return [found for (text,) in reversed(rows) if (found := _read(text))]

    def save(self, record: InstallRecord) -> None:
        self._db.do(
            "INSERT INTO installs (id, created, record) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            record.id,
            record.created,
            record.model_dump_json(),
        )

    def drop(self, ids: Iterable[str]) -> None:
        self._db.do_many("DELETE FROM installs WHERE id = ?", [(one,) for one in ids])


def _read(text: str) -> InstallRecord | None:
    try:
        return InstallRecord.model_validate_json(text)
    except ValidationError:
        event(log, logging.WARNING, "install.unreadable")
        return None
