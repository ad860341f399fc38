"""What can go wrong between a source and the store; all are PendraErrors with a code of their own.

PendraError
└── StoreError                500  store_error; store_unusable: the folder cannot be written
    ├── SourceError           400  bad_source: not a source we can read
    │   └── UnsupportedSource 400  unsupported_source: a form or backend this build does not fetch for
    ├── ModelInUseError       409  model_in_use: jobs run on it; install_running: it is being installed
    ├── InstallCancelled      499  cancelled: somebody stopped the install
    ├── DownloadError         502  download_failed: the source did not give the file; `retryable` when it may later
    ├── ChecksumError         502  checksum_mismatch: the file is not the one that was meant
    ├── CorruptModelError     502  model_corrupt: the file is the one that was meant, and no usable GGUF
    └── DiskFullError         507  disk_full: names what is needed and what is free

No message holds a credential: sources are named by `sources.public`.
"""

from __future__ import annotations

from typing import Any

from tasks.errors import PendraError


class StoreError(PendraError):
    default_code = "store_error"


class SourceError(StoreError):
    status = 400
    default_code = "bad_source"


class UnsupportedSource(SourceError):  # noqa: N818  # reads as what it is
    default_code = "unsupported_source"


class ModelInUseError(StoreError):
    status = 409
    default_code = "model_in_use"


class InstallCancelled(StoreError):  # noqa: N818  # no error of the installer's
    status = 499
    default_code = "cancelled"


class DownloadError(StoreError):
    """`retryable`: the same request may well work later (the network, a busy server).

    `after_s`: the server said when to come back.
    """

    status = 502
    default_code = "download_failed"

    def __init__(self, message: str, *, retryable: bool = False, after_s: float | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.retryable = retryable
        self.after_s = after_s


class ChecksumError(StoreError):
    status = 502
    default_code = "checksum_mismatch"


class CorruptModelError(StoreError):
    status = 502
    default_code = "model_corrupt"


class DiskFullError(StoreError):
    status = 507
    default_code = "disk_full"
