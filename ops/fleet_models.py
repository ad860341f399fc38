"""Models on other hosts: asking their installer agents through Celery, and following what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tasks.celery_app import make_app
from tasks.celery_config import AGENT_NAME, CANCEL_INSTALL, INSTALL, PROGRESS, UNINSTALL
from tasks.contract import InstallProgress, InstallRequest
from tasks.errors import NotFoundError, PendraError, UnavailableError
from tasks.keys import INSTALL_TTL_S, install_queue, install_stop

_AGENT = AGENT_NAME.format(node="")
_ASK_S = 1.5
_POLL_S = 0.3
_ENDED = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

Told = Callable[[str, InstallProgress], None]
"""Called with the node and how far it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: `result` of a good one, else `error` in the words of the agent."""

    node: str
    result: Mapping[str, Any]
    error: str = ""


class FleetModels:
    """Blocking. Raises UnavailableError when Redis is away."""

    def __init__(self, redis_url: str) -> None:
        self._app = make_app(redis_url)

    def close(self) -> None:
        self._app.close()

    def nodes(self) -> list[str]:
        """Hosts whose agent answers now."""
        replies = self._asked(lambda: self._app.control.ping(timeout=_ASK_S))
        names = (name for reply in replies for name in reply)
        return sorted(name.removeprefix(_AGENT) for name in names if name.startswith(_AGENT))

    def chosen(self, node: str | None) -> list[str]:
        """That host, or all. Raises NotFoundError when none answers."""
        found = self.nodes()
        if node is not None and node not in found:
            have = ", ".join(found) or "none"
            raise NotFoundError(
                f"no installer agent answers on {node}; those that do: {have}", code="worker_not_found"
            )
        if not found:
            raise UnavailableError(
                "no installer agent answers; `pendra worker` runs one on each host", code="no_worker"
            )
        return found if node is None else [node]

    def install(self, request: InstallRequest, nodes: list[str]) -> dict[str, str]:
        """Ask the hosts; node → task id."""
        arguments = request.model_dump(exclude_none=True, exclude_defaults=True, mode="json")
        return {node: self._send(INSTALL, arguments, node) for node in nodes}

    def uninstall(self, model: str, nodes: list[str], *, force: bool, backend: str | None = None) -> dict[str, str]:
        arguments = {"model": model, "force": force} | ({"backend": backend} if backend else {})
        return {node: self._send(UNINSTALL, arguments, node) for node in nodes}

    def follow(self, tasks: Mapping[str, str], told: Told) -> list[Outcome]:
        """Until all have ended."""
        open_tasks, ended = dict(tasks), []
        while open_tasks:
            for node, task_id in list(open_tasks.items()):
                meta = self._asked(lambda task_id=task_id: self._app.backend.get_task_meta(task_id))  # type: ignore[misc]
                if meta["status"] == PROGRESS:
                    told(node, InstallProgress.model_validate(meta["result"]))
                elif meta["status"] in _ENDED:
                    del open_tasks[node]
                    ended.append(_outcome(node, meta))
            if open_tasks:
                time.sleep(_POLL_S)
        return ended

    def cancel(self, target: str, nodes: list[str] | None, *, discard: bool) -> int:
        """Stop installs by task id or model id; how many were running."""
        where = None if nodes is None else [_AGENT + node for node in nodes]
        arguments = {"target": target, "discard": discard}
        options = {"arguments": arguments, "destination": where, "reply": True, "timeout": _ASK_S}
        replies = self._asked(lambda: self._app.control.broadcast(CANCEL_INSTALL, **options))
        hit = sum(len(said.get("ok", ())) for reply in replies for said in reply.values())
        if not hit:  # a task whose agent is away, or which has not begun: it finds the note when it does
            note, said = install_stop(target), "discard" if discard else "keep"
            self._asked(lambda: self._app.backend.client.set(note, said, ex=INSTALL_TTL_S))
        return hit

    def models(self, nodes: list[str]) -> dict[str, list[dict[str, Any]]]:
        """What the hosts have installed."""
        where = [_AGENT + node for node in nodes]
        replies = self._asked(
            lambda: self._app.control.broadcast("installed_models", destination=where, reply=True, timeout=_ASK_S)
        )
        return {name.removeprefix(_AGENT): said for reply in replies for name, said in reply.items()}

    def _send(self, name: str, arguments: dict[str, Any], node: str) -> str:
        queue = install_queue(node)
        return str(self._asked(lambda: self._app.send_task(name, kwargs=arguments, queue=queue)).id)

    def _asked(self, call: Callable[[], Any]) -> Any:
        """Celery's first control call after a lost connection may fail by itself: ask twice."""
        try:
            return call()
        except (OperationalError, RedisError, OSError):
            try:
                return call()
            except (OperationalError, RedisError, OSError) as exc:
                why = f"Redis does not answer ({type(exc).__name__}); see PENDRA_REDIS_URL"
                raise UnavailableError(why, code="redis_unavailable") from None


def _outcome(node: str, meta: Mapping[str, Any]) -> Outcome:
    if meta["status"] == "SUCCESS":
        return Outcome(node, meta["result"])
    return Outcome(node, {}, str(meta["result"]) or "the task was revoked before it began")


class FleetError(PendraError):
    """Not every host did what it was asked; which ones stands in the message."""

    default_code = "fleet_error"
