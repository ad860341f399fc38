"""The project's one error tree, with a stable code for everything a user can meet.

PendraError
├── BadRequestError        400  the request itself is wrong (bad_request, invalid_json, …)
├── AuthError              401  unauthorized
├── NotFoundError          404  model_not_found, model_not_installed, worker_not_found
├── BusyError              429  queue_full, rate_limited (carries retry_after)
├── JobCancelledError      499  cancelled: the client went away, nobody reads the answer
├── WorkerError            502  worker_error, worker_lost, model_corrupt, out_of_memory, …
├── UnavailableError       503  no_worker, redis_unavailable
├── JobTimeoutError        504  timeout, deadline_exceeded
├── PrivateReplyError      502  private_reply_lost, private_replayed (409): nobody may go on with a private reply
└── ConfigError            –    a setting is wrong; names the key, the value and what is allowed
    SealError              –    a sealed payload does not open: wrong key, or tampered with

A `PendraError` crosses every boundary as (code, message, status, retry_after); its message is written for the
person who made the request and never carries a prompt, a completion or a key.
"""

from __future__ import annotations

from typing import ClassVar


class PendraError(Exception):
    """Base of all errors. `code` is stable; `status` is the HTTP status the API answers with.

    `position`: the place in the queue that a refused job would have had, from 1.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after = retry_after
        self.position = position


class BadRequestError(PendraError):
    status = 400
    default_code = "bad_request"


class AuthError(PendraError):
    status = 401
    default_code = "unauthorized"


class NotFoundError(PendraError):
    status = 404
    default_code = "model_not_found"


class BusyError(PendraError):
    status = 429
    default_code = "queue_full"


class JobCancelledError(PendraError):
    status = 499
    default_code = "cancelled"


class WorkerError(PendraError):
    status = 502
    default_code = "worker_error"


class UnavailableError(PendraError):
    status = 503
    default_code = "no_worker"


class JobTimeoutError(PendraError):
    status = 504
    default_code = "timeout"


class PrivateReplyError(PendraError):
    """Going on with a private reply could seal two texts under one key and nonce, so it ends."""

    status = 502
    default_code = "private_reply_lost"


class ConfigError(PendraError):
    """A setting cannot be used. The message names the key, the value given and what is allowed."""

    default_code = "bad_config"


class SealError(PendraError):
    """A sealed payload could not be opened: another fleet key, or changed on the way."""

    status = 502
    default_code = "seal_broken"


def status_of(code: str) -> int:
    """The HTTP status that belongs to a stable error code; unknown codes are a worker's fault (502)."""
    return STATUS_BY_CODE.get(code, 502)


STATUS_BY_CODE: dict[str, int] = {
    "bad_request": 400,
    "bad_frame": 400,
    "bad_blob": 400,
    "bad_envelope": 400,
    "envelope_not_opened": 400,
    "invalid_json": 400,
    "context_length_exceeded": 400,
    "unsupported_content": 400,
    "unsupported_parameter": 400,
    "unsupported_endpoint": 400,
    "wrong_capability": 400,
    "bad_schema": 400,
    "bad_grammar": 400,
    "bad_source": 400,
    "unsupported_source": 400,
    "install_unsupported": 400,
    "uninstall_unsupported": 400,
    "unauthorized": 401,
    "admin_key_needed": 403,
    "model_not_allowed": 403,
    "model_not_found": 404,
    "model_not_installed": 404,
    "worker_not_found": 404,
    "install_not_found": 404,
    "key_not_found": 404,
    "identity_not_found": 404,
    "no_private_inference_key": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "model_in_use": 409,
    "install_running": 409,
    "private_replayed": 409,
    "install_ended": 409,
    "request_too_large": 413,
    "queue_full": 429,
    "rate_limited": 429,
    "too_many_failures": 429,
    "cancelled": 499,
    "internal_error": 500,
    "store_error": 500,
    "store_unusable": 500,
    "install_unavailable": 501,
    "install_lost": 502,
    "catalogue_unreadable": 502,
    "worker_error": 502,
    "worker_lost": 502,
    "stream_gap": 502,
    "private_reply_lost": 502,
    "reply_too_large": 502,
    "blob_lost": 502,
    "seal_broken": 502,
    "model_corrupt": 502,
    "model_load_failed": 502,
    "out_of_memory": 502,
    "unsupported_architecture": 502,
    "missing_split": 502,
    "bad_adapter": 502,
    "backend_unavailable": 502,
    "backend_error": 502,
    "download_failed": 502,
    "checksum_mismatch": 502,
    "no_worker": 503,
    "no_private_inference_worker": 503,
    "no_labelled_worker": 503,
    "version_mismatch": 503,
    "redis_unavailable": 503,
    "audit_unavailable": 503,
    "draining": 503,
    "timeout": 504,
    "deadline_exceeded": 504,
    "reader_too_slow": 504,
    "disk_full": 507,
}
