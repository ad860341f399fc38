"""How a failure looks to a client: as an HTTP status with a JSON body, or inside a reply that has begun."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from bridge.protocol import ErrorFrame
from tasks.errors import STATUS_BY_CODE, PendraError, WorkerError

ERROR_CODE_HEADER = "x-pendra-error-code"
POSITION_HEADER = "x-pendra-queue-position"
_SERVER_ERRORS = 500
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST_WAIT_S = 86_400.0
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request failed, in words for the person who made it. `position`: the place in the queue it would have."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    worker_id: str | None = None
    worker_name: str | None = None
    position: int | None = None

    @property
    def type(self) -> str:
        return _TYPES.get(self.status, "invalid_request_error" if self.status < _SERVER_ERRORS else "server_error")


def problem_of(exc: PendraError) -> Problem:
    status = STATUS_BY_CODE.get(exc.code, exc.status)
    return Problem(status, exc.code, exc.message, exc.param, exc.retry_after, position=exc.position)


def problem_in(frame: ErrorFrame) -> Problem:
    """What a bridge reported. A status that is none of an error's counts as the worker's fault.

    Code and waiting time become headers, so that only a word and a number of seconds pass.
    """
    waits = frame.retry_after is not None and 0 <= frame.retry_after <= _LONGEST_WAIT_S  # NaN is not
    return Problem(
        status=frame.status if 400 <= frame.status <= 599 else 502,  # noqa: PLR2004  # the range of HTTP errors
        code=frame.code if _CODE.fullmatch(frame.code) else WorkerError.default_code,
        message=frame.message,
        param=frame.param,
        retry_after=frame.retry_after if waits else None,
        worker_id=frame.worker_id,
        worker_name=frame.worker_name,
        position=frame.position,
    )


def http_body(problem: Problem) -> dict[str, Any]:
    """`detail` for Pendra's clients, `error` for OpenAI's."""
    error: dict[str, Any] = {
        "message": problem.message,
        "type": problem.type,
        "code": problem.code,
        "param": problem.param,
    }
    if problem.position is not None:
        error["queue_position"] = problem.position
    return {"detail": problem.message, "code": problem.code, "error": error}


def http_headers(problem: Problem) -> dict[str, str]:
    headers = {ERROR_CODE_HEADER: problem.code}
    if problem.status == 429:  # noqa: PLR2004  # RFC 6585
        headers["retry-after"] = str(math.ceil(problem.retry_after or 1))
    elif problem.retry_after is not None:
        headers["retry-after"] = str(math.ceil(problem.retry_after))
    if problem.position is not None:
        headers[POSITION_HEADER] = str(problem.position)
    if problem.status == 401:  # noqa: PLR2004  # RFC 9110 §15.5.2 asks for it
        headers["www-authenticate"] = 'Bearer realm="pendra"'
    return headers


def in_band(problem: Problem, request_id: str) -> dict[str, Any]:
    """For a reply whose 200 has gone out. `code` is the HTTP status it would have had: the SDK reads it as one."""
    error = {
        "message": problem.message,
        "type": problem.type,
        "code": problem.status,
        "error_code": problem.code,
        "param": problem.param,
        "request_id": request_id,
        "worker_id": problem.worker_id,
        "worker_name": problem.worker_name,
    }
    return {"error": {name: value for name, value in error.items() if value is not None or name == "param"}}
