"""One install or uninstall that somebody asked this API for: what was asked, how far it is, how it ended. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic_core import from_json

from bridge.protocol import ErrorFrame, Install, ProgressFrame, ResultFrame, Uninstall
from tasks.contract import Frozen, InstallProgress

PREFIX = "ins_"
WAITING = "waiting"
_HIDDEN = {"v", "bridge", "seq", "heard", "resends", "stop", "variant"}


class Action(StrEnum):
    INSTALL = "install"
    UNINSTALL = "uninstall"


class State(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stop(StrEnum):
    """Somebody cancelled it: what came so far stays, or does not."""

    KEEP = "keep"
    DISCARD = "discard"


class Wish(Frozen):
    """What is asked of one bridge. `worker_id`: a worker or host of it, None = all its hosts."""

    action: Action
    model: str
    worker_id: str | None = None
    backend: str | None = None
    quantisation: str | None = None
    variant: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies it
    force: bool = False


class Trouble(Frozen):
    """Why it failed."""

    code: str
    message: str
    node: str | None = None


class InstallRecord(Wish):
    """Replaced, never changed. `seq`: of the newest frame. `heard`: the bridge has said something about it.

    `hosts`: what each host said last. `result`: of a good end, each host's.
    """

    v: int = 1
    id: str
    bridge: tuple[str, str]
    by: str
    created: float
    state: State = State.RUNNING
    stage: str = WAITING
    fraction: float = 0.0
    hosts: Mapping[str, InstallProgress] = {}
    result: tuple[dict[str, Any], ...] = ()
    error: Trouble | None = None
    ended: float | None = None
    stop: Stop | None = None
    seq: int = -1
    heard: bool = False
    resends: int = 0

    @property
    def open(self) -> bool:
        return self.state is State.RUNNING

    def frame(self) -> Install | Uninstall:
        if self.action is Action.UNINSTALL:
            return Uninstall(
                request_id=self.id,
                model=self.model,
                worker_id=self.worker_id,
                backend=self.backend,
                force=self.force,
            )
        return Install(
            request_id=self.id,
            model=self.model,
            worker_id=self.worker_id,
            backend=self.backend,
            variant=self.variant,
        )

    def view(self, *, connected: bool) -> dict[str, Any]:
        """For people and programs. `connected`: whether news can come now."""
        shown = self.model_dump(mode="json", exclude=_HIDDEN | {"hosts"})
        hosts = [host.model_dump(exclude={"model"}) for _, host in sorted(self.hosts.items())]
        return shown | {
            "object": "install",
            "hosts": hosts,
            "cancelling": self.open and self.stop is not None,
            "connected": connected,
        }


def progressed(record: InstallRecord, frame: ProgressFrame) -> InstallRecord:
    told = {frame.detail.node: frame.detail} if frame.detail else {}
    return record.model_copy(
        update={
            "seq": frame.seq,
            "heard": True,
            "stage": frame.stage,
            "fraction": frame.fraction,
            "hosts": {**record.hosts, **told},
        }
    )


def finished(record: InstallRecord, frame: ResultFrame) -> InstallRecord:
    """What its hosts say it came to; an end that cannot be read is a failure."""
    try:
        said = from_json(frame.data or "{}")
        hosts = said["hosts"] if set(said) == {"hosts"} else [said]
        told = all(isinstance(host, dict) for host in hosts)
    except (ValueError, TypeError):
        told = False
    if not told:
        return failed(record, "worker_error", "the bridge's report of this install cannot be read", seq=frame.seq)
    return _over(record, State.DONE, seq=frame.seq, fraction=1.0, result=tuple(hosts))


def failed(record: InstallRecord, code: str, message: str, *, node: str | None = None, seq: int) -> InstallRecord:
    state = State.CANCELLED if code == "cancelled" else State.FAILED
    return _over(record, state, seq=seq, error=Trouble(code=code, message=message, node=node))


def failed_as_said(record: InstallRecord, frame: ErrorFrame) -> InstallRecord:
    return failed(record, frame.code, frame.message, node=frame.worker_id, seq=frame.seq)


def _over(record: InstallRecord, state: State, **fields: Any) -> InstallRecord:
    ended = {"state": state, "stage": state.value, "ended": round(time.time(), 3), "heard": True}
    return record.model_copy(update=ended | fields)
