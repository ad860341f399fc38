"""Installs and uninstalls that the API asked for: which hosts, and what of their progress the API hears. Sans-I/O.

One request may go to several hosts, each with a Celery task of its own; the API sees one progress, the slowest
host's, and one end: a result when all did it, else the first failure with the hosts' words.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from bridge import problems, replies
from bridge.effects import StartTask, StopTask
from bridge.ledger import Ledger
from bridge.protocol import Install, ProgressFrame, ResultFrame, Uninstall, encode
from tasks.celery_config import INSTALL, UNINSTALL
from tasks.contract import InstallProgress
from tasks.errors import NotFoundError, PendraError
from tasks.logs import event

log = logging.getLogger("pendra.bridge")

_FROM_VARIANT = {"gguf_url": "source", "gguf_sha256": "sha256", "size": "size", "mirrors": "mirrors"}


@dataclass(slots=True, eq=False)
class _Request:
    """`tasks`: task id → host, those still running. `told`: each host's last fraction and stage."""

    id: str
    tasks: dict[str, str]
    seq: int = 0
    told: dict[str, tuple[float, str]] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, PendraError] = field(default_factory=dict)


class Installs:
    """The session is its only user."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._requests: dict[str, _Request] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """Task ids whose state is of interest."""
        return tuple(task for request in self._requests.values() for task in request.tasks)

    def ask(self, frame: Install | Uninstall) -> None:
        """Start a task on each host that is meant. A request id that is known already changes nothing."""
        if frame.request_id in self._requests:
            return
        nodes = self._nodes(frame.worker_id)
        if not nodes:
            self._ledger.send(replies.error(frame.request_id, 0, _nobody(frame.worker_id)))
            return
        tasks = {f"{frame.request_id}.{node}": node for node in nodes}
        self._requests[frame.request_id] = _Request(frame.request_id, tasks)
        name, arguments = task_of(frame)
        event(log, logging.INFO, "install.asked", request_id=frame.request_id, model=frame.model, hosts=len(nodes))
        for task_id, node in tasks.items():
            self._ledger.effects.append(StartTask(task_id, name, arguments, node))

    def cancel(self, request_id: str) -> bool:
        """Whether there is such a request."""
        request = self._requests.get(request_id)
        if request is None:
            return False
        self._ledger.effects.extend(StopTask(task_id) for task_id in request.tasks)
        return True

    def progress(self, task_id: str, progress: InstallProgress) -> None:
        request = self._of(task_id)
        if request is None:
            return
        before = self._slowest(request)
        request.told[task_id] = (progress.fraction, progress.stage)
        now = self._slowest(request)
        if now is None or now == before:
            return
        frame = ProgressFrame(
            job_id=request.id, seq=request.seq, stage=now[1], fraction=now[0], worker_id=progress.node
        )
        self._send(request, encode(frame))

    def ended(self, task_id: str, result: dict[str, Any] | None, problem: PendraError | None) -> None:
        request = self._of(task_id)
        if request is None:
            return
        node = request.tasks.pop(task_id)
        request.told.pop(task_id, None)
        if problem is None:
            request.results[node] = result or {}
        else:
            request.failures[node] = problem
        if not request.tasks:
            del self._requests[request.id]
            self._finish(request)

    def _finish(self, request: _Request) -> None:
        if request.failures:
            (node, first), *_ = request.failures.items()
            words = "; ".join(f"{host}: {problem.message}" for host, problem in request.failures.items())
            problem = PendraError(words, code=first.code)
            self._send(request, replies.error(request.id, request.seq, problem, (node, "")))
            return
        hosts = list(request.results.values())
        data = json.dumps(hosts[0] if len(hosts) == 1 else {"hosts": hosts})
        worker = next(iter(request.results))
        self._send(request, encode(ResultFrame(job_id=request.id, seq=request.seq, worker_id=worker, data=data)))

    def _send(self, request: _Request, text: str) -> None:
        request.seq += 1
        self._ledger.send(text)

    def _slowest(self, request: _Request) -> tuple[float, str] | None:
        """Only once every host has said something."""
        return min(request.told.values()) if len(request.told) == len(request.tasks) else None

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
    said = {name: variant[key] for key, name in _FROM_VARIANT.items() if variant.get(key)}
    if not said.get("source") and variant.get("quantisation"):
        said = {"variant": variant["quantisation"]}
    return INSTALL, {"model": frame.model} | said | backend


def _nobody(worker_id: str | None) -> PendraError:
    if worker_id is None:
        return problems.NO_HOST
    return NotFoundError(f"there is no worker {worker_id!r} in this fleet", code="worker_not_found")
