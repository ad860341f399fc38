"""The installs of this API: which are under way on which bridge, and what became of them. Sans-I/O but for its log.

An install does not need us: the hosts go on while a bridge is away or this process is down. Open ones are on disk;
`welcome` names them to their bridge, which then tells how they stand. Of their frames only the newest counts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from bridge.protocol import Ack, Cancel, ErrorFrame, JobMark, ProgressFrame, ResultFrame, UsageFrame, encode
from ops.controlplane.install_log import InstallLog
from ops.controlplane.install_record import (
    PREFIX,
    Action,
    InstallRecord,
    State,
    Stop,
    Wish,
    failed,
    failed_as_said,
    finished,
    progressed,
)
from ops.controlplane.placement import BridgeId
from tasks.errors import NotFoundError, PendraError
from tasks.logs import event

log = logging.getLogger("pendra.controlplane")

KEPT = 500
EXPIRE_S = 24 * 3600  # as long as the hosts' results are kept
MAX_RESENDS = 3
_UNKNOWN = "worker_lost"  # what a bridge says of an id that it does not know

Frames = ProgressFrame | ResultFrame | ErrorFrame | UsageFrame


class Installs:
    """The event loop's. `send` hands a frame to a bridge, or drops it when the bridge is away."""

    def __init__(
        self, send: Callable[[BridgeId, str], None], kept: InstallLog, wall: Callable[[], float] = time.time
    ) -> None:
        self._send = send
        self._log = kept
        self._wall = wall
        self._records = OrderedDict((record.id, record) for record in kept.load(KEPT))
        self._watchers: set[Watcher] = set()

    # ---------------------------------------------------------------- from the HTTP side

    def open(self, wish: Wish, bridge: BridgeId, by: str) -> InstallRecord:
        """Ask a bridge; `by` is the key's id."""
        record = InstallRecord(
            **wish.model_dump(),
            id=PREFIX + secrets.token_hex(8),
            bridge=bridge,
            by=by,
            created=round(self._wall(), 3),
        )
        event(log, logging.INFO, f"{wish.action}.asked", request_id=record.id, model=wish.model, by=by)
        self._put(record, write=True)
        self._send(bridge, encode(record.frame()))
        self._trim()
        return record

    def cancel(self, request_id: str, stop: Stop) -> InstallRecord:
        """Stop it on all its hosts; it ends when they say so. Raises NotFoundError, PendraError(`install_ended`)."""
        record = self.get(request_id)
        if not record.open:
            raise PendraError(f"{request_id} has ended already: it is {record.state}", code="install_ended")
        record = record.model_copy(update={"stop": stop})
        self._put(record, write=True)
        self._send(record.bridge, _cancel(record))
        return record

    def get(self, request_id: str) -> InstallRecord:
        """Raises NotFoundError."""
        found = self._records.get(request_id)
        if found is None:
            raise NotFoundError(
                f"there is no install {request_id}; GET /api/v1/installs lists them", code="install_not_found"
            )
        return found

    def all(self) -> list[InstallRecord]:
        """The newest first."""
        return list(reversed(self._records.values()))

    def watch(self) -> Watcher:
        """Hears of every change; close it."""
        watcher = Watcher(self._watchers)
        self._watchers.add(watcher)
        return watcher

    # ---------------------------------------------------------------- from the bridges

    def marks(self, bridge: BridgeId) -> tuple[JobMark, ...]:
        """For `welcome`."""
        return tuple(JobMark(job_id=record.id, seq=record.seq) for record in self._open(bridge))

    def welcomed(self, bridge: BridgeId) -> None:
        """The bridge is back: cancels it may have missed."""
        for record in self._open(bridge):
            if record.stop is not None:
                self._send(bridge, _cancel(record))

    def frame(self, bridge: BridgeId, frame: Frames) -> bool:
        """Whether the frame is about an install."""
        record = self._records.get(frame.job_id)
        if record is None or record.bridge != bridge or isinstance(frame, UsageFrame):
            return record is not None
        if record.open and isinstance(frame, ErrorFrame) and frame.code == _UNKNOWN:
            self._unknown(record, frame)
        elif record.open and frame.seq > record.seq:
            self._take(record, frame)
        if not self._records[record.id].open:
            self._send(bridge, encode(Ack(job_id=record.id, seq=frame.seq)))
        return True

    def expire(self) -> None:
        """Give up what nobody has told of for a day."""
        for record in list(self._records.values()):
            if record.open and self._wall() - record.created > EXPIRE_S:
                words = "nothing was heard of it for a day; see `pendra models list --all` for what is installed"
                self._put(failed(record, "install_lost", words, seq=record.seq), write=True)

    # ---------------------------------------------------------------- parts

    def _take(self, record: InstallRecord, frame: ProgressFrame | ResultFrame | ErrorFrame) -> None:
        if isinstance(frame, ProgressFrame):
            self._put(progressed(record, frame), write=False)
            return
        made = finished(record, frame) if isinstance(frame, ResultFrame) else failed_as_said(record, frame)
        code = made.error.code if made.error else ""
        event(log, logging.INFO, f"{made.action}.{made.state}", request_id=made.id, model=made.model, code=code)
        self._put(made, write=True)

    def _unknown(self, record: InstallRecord, frame: ErrorFrame) -> None:
        """It never got there, or the bridge lost it. An install may be asked for again: the hosts join theirs."""
        again = record.action is Action.INSTALL or not record.heard
        if again and record.resends < MAX_RESENDS and record.stop is None:
            record = record.model_copy(update={"resends": record.resends + 1, "seq": -1})
            self._put(record, write=True)
            self._send(record.bridge, encode(record.frame()))
            return
        words = "the bridge was restarted and lost track of it; its hosts may have gone on: look, and ask again"
        self._put(failed(record, "install_lost", words, seq=frame.seq), write=True)

    def _open(self, bridge: BridgeId) -> list[InstallRecord]:
        return [record for record in self._records.values() if record.open and record.bridge == bridge]

    def _put(self, record: InstallRecord, *, write: bool) -> None:
        self._records[record.id] = record
        if write:
            self._log.save(record)
        for watcher in self._watchers:
            watcher.tell(record.id)

    def _trim(self) -> None:
        """Forget the oldest ended ones beyond the number kept."""
        ended = [record.id for record in self._records.values() if record.state is not State.RUNNING]
        gone = ended[: max(0, len(self._records) - KEPT)]
        for request_id in gone:
            del self._records[request_id]
        self._log.drop(gone)


class Watcher:
    """What changed since the last look; changes of one install in between count once. One reader."""

    def __init__(self, all_: set[Watcher]) -> None:
        self._all = all_
        self._ids: dict[str, None] = {}
        self._news = asyncio.Event()

    def tell(self, request_id: str) -> None:
        self._ids[request_id] = None
        self._news.set()

    async def changed(self) -> Iterable[str]:
        """Ids of installs that changed, at least one. Cancelling is safe."""
        await self._news.wait()
        self._news.clear()
        ids, self._ids = self._ids, {}
        return ids

    def close(self) -> None:
        self._all.discard(self)


def _cancel(record: InstallRecord) -> str:
    return encode(Cancel(job_id=record.id, discard=record.stop is Stop.DISCARD))
