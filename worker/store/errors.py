"""What can go wrong between a source and the store; all are PendraErrors with a code of their own.

PendraError
└── StoreError
    ├── SourceError        400  bad_source: not a source URL we can read
    │   └── UnsupportedSource   unsupported_source: a form this build does not fetch
    ├── DownloadError      502  download_failed: the source did not give the file; `retryable` when it may later
    ├── ChecksumError      502  checksum_mismatch: the file is not the one the catalogue means
    └── DiskFullError      507  disk_full: names what is needed and what is free
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


class DownloadError(StoreError):
    """`retryable`: the same request may well work later (the network, a busy server)."""

    status = 502
    default_code = "download_failed"

    def __init__(self, message: str, *, retryable: bool = False, **more: Any) -> None:
        super().__init__(message, **more)
        self.retryable = retryable


class ChecksumError(StoreError):
    status = 502
    default_code = "checksum_mismatch"


class DiskFullError(StoreError):
    status = 507
    default_code = "disk_full"
