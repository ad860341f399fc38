"""A model that cannot see was sent a picture: which of the installed ones can. Pure.

Open jobs are refused before they are sent (`tasks.capability`). Only a worker can look into a private one, but it
knows its own models only: the bridge, which knows the fleet's, finishes its sentence.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.fleet import WorkerView
from tasks.contract import Failed

_CODE = "unsupported_content"
_BLIND = "holds images, but this model reads text only"
"""The words of `worker.chat.messages`."""
_MOST_NAMED = 5


def finished_words(event: Failed, workers: Iterable[WorkerView]) -> str:
    """The error's message, with the models that take images where it is about those."""
    if event.code != _CODE or not event.message.endswith(_BLIND):
        return event.message
    seeing = sorted({row.id for view in workers for row in view.rows.values() if "vision" in (row.features or ())})
    if not seeing:
        return f"{event.message}; no installed model is known to take images"
    more = f" and {len(seeing) - _MOST_NAMED} more" if len(seeing) > _MOST_NAMED else ""
    return f"{event.message}; installed models that take images: {', '.join(seeing[:_MOST_NAMED])}{more}"
