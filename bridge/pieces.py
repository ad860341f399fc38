"""What became of the pieces of large parts: laid down in Redis or not, sent to the API or lost. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bridge import problems, replies
from bridge.effects import Effect
from bridge.ledger import Ledger
from bridge.uploads import Uploads


class Pieces:
    """Inputs of the session, like `Attempts`: `flush` gathers the effects to carry out at the time it is now."""

    def __init__(self, ledger: Ledger, uploads: Uploads, flush: Callable[[float], list[Effect]]) -> None:
        self._ledger = ledger
        self._uploads = uploads
        self._flush = flush

    def stored(self, size: int) -> None:
        """Redis has a piece of a request, or will never have it: it is not in our memory any more."""
        self._uploads.stored(size)

    def failed(self, job_id: str, now: float) -> list[Effect]:
        """A piece of a request could not be laid down."""
        self._uploads.failed(job_id, now)
        return self._flush(now)

    def sent(self, text: str) -> None:
        """A piece of a large reply was given to the link."""
        self._ledger.flow.given(text)

    def reply_lost(self, job_id: str, now: float) -> list[Effect]:
        """A large reply cannot be read any more: its result is taken back."""
        record = self._ledger.jobs.get(job_id)
        if record is not None and record.reply is not None:
            self._ledger.send(replies.error(job_id, record.next_seq, problems.REPLY_LOST))
        return self._flush(now)
