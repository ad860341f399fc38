"""What can go wrong between two hosts; the codes are stable."""

from __future__ import annotations

from typing import ClassVar

from tasks.errors import PendraError


class JoinError(PendraError):
    """`join_token_invalid`, `join_token_expired`, `join_token_used`, `join_refused`, `join_rate_limited`,
    `join_unreachable`, `join_not_pinned`, `join_failed`."""

    status: ClassVar[int] = 403
    default_code = "join_failed"
