"""Install and uninstall as Celery tasks, run by the installer agent of the host whose queue they stand in.

Arguments are plain JSON (docs/operations.md), so that scripts, Flower and `celery call` can ask. The result is in the
result backend for a day: state PROGRESS with an `InstallProgress` as meta, then SUCCESS, or FAILURE with an
`InstallError` whose text is `[code] what was wrong`. Watchers get the same as `task-progress` events.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Ignore
from pydantic import ValidationError

from tasks.celery_config import INSTALL, UNINSTALL
from tasks.contract import InstallRequest
from tasks.errors import BadRequestError, PendraError


class InstallError(Exception):
    """An install's failure as Celery stores it: the code and the words, no trace of what led there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


def failure(exc: PendraError) -> InstallError:
    return InstallError(f"[{exc.code}] {exc.message}")


@shared_task(name=INSTALL, bind=True, ignore_result=False, track_started=True)
def install_model(
    self: Any,
    model: str,
    *,
    source: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    purpose: str | None = None,
    licence: str | None = None,
    mirrors: list[str] | None = None,
    variant: str | None = None,
    backend: str | None = None,
) -> dict[str, Any]:
    """Have a model on this host. Returns `{"model", "node", "path", "sha256", "size", "fetched"}`."""
    from worker.installer_agent import current  # noqa: PLC0415  # only the agent has the store

    given: dict[str, Any] = {"model": model, "source": source, "sha256": sha256, "size": size, "purpose": purpose}
    given |= {"licence": licence, "mirrors": mirrors or (), "variant": variant, "backend": backend}
    try:
        done = current().install(_request(given), self)
    except PendraError as exc:
        if exc.code == "draining":  # the state stays PROGRESS: the install goes on when the agent starts again
            raise Ignore from None
        raise failure(exc) from None
    return done


@shared_task(name=UNINSTALL, bind=True, ignore_result=False, track_started=True)
def uninstall_model(self: Any, model: str, backend: str | None = None, *, force: bool = False) -> dict[str, Any]:
    """Remove a model from this host. `force`: wait for the jobs that use it instead of refusing."""
    from worker.installer_agent import current  # noqa: PLC0415

    try:
        return current().uninstall(str(model), backend, force=bool(force), task_id=str(self.request.id))
    except PendraError as exc:
        raise failure(exc) from None


def _request(given: dict[str, Any]) -> InstallRequest:
    try:
        return InstallRequest.model_validate(given)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BadRequestError(f"the argument {where} of {INSTALL}: {first['msg']}", param=where) from None
