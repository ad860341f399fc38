"""Installs and uninstalls that the API asked for: which hosts, and what of their progress the API hears. Sans-I/O.

One request may go to several hosts, each with a Celery task of its own; the API hears of each host as it goes, and
one end: a result when all did it, else the first failure with the hosts' words. The tasks do not need us: while the
link is down or this process is gone they go on, and what became of them is told after the next `welcome`. Of an
install's frames only the last progress counts, so that `seq` may skip numbers.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from bridge import problems, replies
from bridge.effects import DropInstall, NoteInstall, StartTask, StopTask
from bridge.entries import HostFailure, InstallEntry
from bridge.ledger import Ledger
from bridge.protocol import Install, ProgressFrame, ResultFrame, Uninstall, encode
from tasks.celery_config import INSTALL, UNINSTALL
from tasks.contract import InstallProgress
from tasks.errors import NotFoundError, PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge")

_FROM_VARIANT = {
    "gguf_url": "source",
    "gguf_sha256": "sha256",
    "size": "size",
    "mirrors": "mirrors",
    "capability": "purpose",
    "licence": "licence",
}
WAITING, DONE, FAILED = "waiting", "done", "failed"  # stages of a host besides those of its task


@dataclass(slots=True, eq=False)
class _Request:
    """`tasks`: task id → host, those still running. `told`: what each host said last.

    `start`: task and arguments, to ask again if Redis loses them; None when a predecessor asked.
    """

    id: str
    tasks: dict[str, str]
    seq: int = 0
    told: dict[str, InstallProgress] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, HostFailure] = field(default_factory=dict)
    start: tuple[str, dict[str, Any]] | None = None

    @property
    def entry(self) -> InstallEntry:
        return InstallEntry(
            id=self.id, tasks=dict(self.tasks), seq=self.seq, results=dict(self.results), failures=dict(self.failures)
        )


class Installs:
    """The session is its only user."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._requests: dict[str, _Request] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """Task ids whose state is of interest."""
        return tuple(task for request in self._requests.values() for task in request.tasks)

    def knows(self, request_id: str) -> bool:
        return request_id in self._requests

    # ---------------------------------------------------------------- from the API

    def ask(self, frame: Install | Uninstall) -> None:
        """Start a task on each host that is meant. A request id that is known already changes nothing."""
        if frame.request_id in self._requests:
            return
        nodes = self._nodes(frame.worker_id)
        if not nodes:
            self._ledger.send(replies.error(frame.request_id, 0, _nobody(frame.worker_id)))
            return
        name, arguments = task_of(frame)
        tasks = {f"{frame.request_id}.{node}": node for node in nodes}
        request = self._requests[frame.request_id] = _Request(frame.request_id, tasks, start=(name, arguments))
        event(log, logging.INFO, "install.asked", request_id=frame.request_id, model=frame.model, hosts=len(nodes))
        self._note(request)
        self._start(request, tasks)

    def cancel(self, request_id: str, *, discard: bool = False) -> bool:
        """Whether there is such a request."""
        request = self._requests.get(request_id)
        if request is None:
            return False
        self._ledger.effects.extend(StopTask(task, node, discard) for task, node in request.tasks.items())
        return True

    def ack(self, request_id: str, seq: int) -> None:
        """The API has the end: nobody needs it any more."""
        request = self._requests.get(request_id)
        if request is not None and not request.tasks and seq >= request.seq - 1:
            self._drop(request)

    def welcomed(self, wanted: dict[str, int]) -> None:
        """The link is up. `wanted`: requests the API waits for, and the last seq it has of each."""
        for request in list(self._requests.values()):
            if request.id in wanted:
                request.seq = max(request.seq, wanted[request.id] + 1)
                self._say_again(request)
            elif not request.tasks:
                self._drop(request)

    # ---------------------------------------------------------------- from the hosts

    def progress(self, task_id: str, progress: InstallProgress) -> None:
        request = self._of(task_id)
        if request is None or request.told.get(task_id) == progress:
            return
        request.told[task_id] = progress
        self._tell(request, progress)

    def ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None:
        request = self._of(task_id)
        if request is None:
            return
        node = request.tasks.pop(task_id)
        self._ledger.hooks.install_ended(node, problem.code if problem else "")
        last = request.told.pop(task_id, None)
        if problem is None:
            request.results[node] = result or {}
        else:
            request.failures[node] = HostFailure(code=problem.code, message=problem.message)
        if request.tasks:
            model = last.model if last else ""
            self._tell(request, InstallProgress(model=model, node=node, stage=FAILED if problem else DONE))
        else:
            self._finish(request)
        self._note(request)

    # ---------------------------------------------------------------- what may get lost

    def adopt(self, left: list[InstallEntry]) -> None:
        """Go on with what a predecessor left."""
        for entry in left:
            made = _Request(entry.id, dict(entry.tasks), entry.seq, {}, dict(entry.results), dict(entry.failures))
            self._requests.setdefault(entry.id, made)

    def redis_emptied(self) -> None:
        """Redis lost everything: tasks that no host had begun are sent again, under their own ids."""
        for request in self._requests.values():
            self._note(request)
            self._start(request, {task: node for task, node in request.tasks.items() if task not in request.told})

    # ---------------------------------------------------------------- parts

    def _start(self, request: _Request, tasks: dict[str, str]) -> None:
        if request.start is not None:
            name, arguments = request.start
            self._ledger.effects.extend(StartTask(task, name, arguments, node) for task, node in tasks.items())

    def _say_again(self, request: _Request) -> None:
        if not request.tasks:
            self._finish(request)
        for progress in request.told.values():
            self._tell(request, progress)

    def _tell(self, request: _Request, news: InstallProgress) -> None:
        """Of the whole request the slowest host counts; `detail` is the one that spoke."""
        fraction, stage = self._slowest(request)
        frame = ProgressFrame(
            job_id=request.id, seq=request.seq, stage=stage, fraction=fraction, worker_id=news.node, detail=news
        )
        self._send(request, encode(frame))

    def _finish(self, request: _Request) -> None:
        if request.failures:
            (node, first), *_ = request.failures.items()
            words = "; ".join(f"{host}: {problem.message}" for host, problem in request.failures.items())
            self._send(
                request, replies.error(request.id, request.seq, PendraError(words, code=first.code), (node, ""))
            )
            return
        hosts = list(request.results.values())
        data = json.dumps(hosts[0] if len(hosts) == 1 else {"hosts": hosts})
        worker = next(iter(request.results), "")
        self._send(request, encode(ResultFrame(job_id=request.id, seq=request.seq, worker_id=worker, data=data)))

    def _send(self, request: _Request, text: str) -> None:
        request.seq += 1
        self._ledger.send(text)

    def _note(self, request: _Request) -> None:
        self._ledger.effects.append(NoteInstall(request.entry))

    def _drop(self, request: _Request) -> None:
        del self._requests[request.id]
        self._ledger.effects.append(DropInstall(request.id))

    def _slowest(self, request: _Request) -> tuple[float, str]:
        if len(request.told) < len(request.tasks):
            return 0.0, WAITING
        return min((one.fraction, one.stage) for one in request.told.values())

    def _of(self, task_id: str) -> _Request | None:
        return next((request for request in self._requests.values() if task_id in request.tasks), None)

    def _nodes(self, worker_id: str | None) -> list[str]:
        infos = [view.info for view in self._ledger.fleet]
        return sorted({info.node for info in infos if worker_id in (None, info.worker_id, info.node)})


def task_of(frame: Install | Uninstall) -> tuple[str, dict[str, Any]]:
    """The task and its arguments. Pure."""
    backend = {"backend": frame.backend} if frame.backend else {}
    if isinstance(frame, Uninstall):
        return UNINSTALL, {"model": frame.model, "force": frame.force} | backend
    variant = frame.variant
    if frame.backend not in (None, "pendra"):  # it has its own names and its own files
        named = {"source": variant["name"]} if variant.get("name") else {}
        return INSTALL, {"model": frame.model} | named | backend
    said = {name: variant[key] for key, name in _FROM_VARIANT.items() if variant.get(key)}
    if not said.get("source"):
        said = {"variant": variant["quantisation"]} if variant.get("quantisation") else {}
    return INSTALL, {"model": frame.model} | said | backend


def _nobody(worker_id: str | None) -> PendraError:
    if worker_id is None:
        return problems.NO_HOST
    return NotFoundError(f"there is no worker {worker_id!r} in this fleet", code="worker_not_found")
