"""The reply to a private job, as a backend sees it: everything it says of the reply's content leaves sealed.

    stream:  [terminator declared] ─► the backend's chunks ─► [notice] ─► [`[DONE]`]      each one sealed frame
    whole:   one sealed frame, JSON as every backend's reply is (a transcription as text is a JSON string)

The terminator marks go out only when the sealed body asked for them. In the clear travel: that it was claimed,
stages, token counts, timings, and the code of an error.
"""

from __future__ import annotations

import json
from typing import Unpack

from tasks.contract import Job, JsonObject, Notice
from tasks.errors import PendraError
from worker.backends.base import Ending
from worker.private.frames import Frames
from worker.private.veil import veiled
from worker.reply import JobReply

TERMINATOR = "pendra_stream_terminator"
_DECLARED = json.dumps({TERMINATOR: 1})
_DONE = "[DONE]"


class PrivateReply:
    """A `worker.backends.base.Reply`. `declared`: an earlier attempt has begun the stream already."""

    def __init__(self, reply: JobReply, job: Job, frames: Frames, *, terminated: bool, declared: bool) -> None:
        self._reply = reply
        self._job = job
        self._frames = frames
        self._terminated = terminated
        self._declared = declared
        self._last = "{}"
        self.progress = reply.progress

    def chunk(self, data: str, tokens: tuple[int, ...] | None = ()) -> bool:
        self._declare()
        self._last = data
        return self._reply.frame(lambda: self._frames.seal(data, tokens))

    def finish(self, data: str | None = None, **ending: Unpack[Ending]) -> bool:
        notice = ending.pop("notice", None)
        if not self._job.stream:
            text = data or "" if notice is None else _with_notice(data or "{}", notice)
            return self._reply.finish(lambda: self._frames.seal_only(text), **ending)
        if notice is not None:
            self.chunk(_notice_chunk(self._last, notice))
        self._declare()
        if self._terminated:
            self._reply.frame(lambda: self._frames.seal(_DONE, control=True))
        return self._reply.finish(None, **ending)

    def fail(self, error: PendraError) -> bool:
        return self._reply.fail(veiled(error))

    def _declare(self) -> None:
        if self._terminated and not self._declared:
            self._declared = True
            self._reply.frame(lambda: self._frames.seal(_DECLARED, control=True))


def _with_notice(data: str, notice: Notice) -> str:
    body = json.loads(data)
    block = {**body.get("pendra", {}), "notice": notice.model_dump()}
    return json.dumps({**body, "pendra": block}, separators=(",", ":"))


def _notice_chunk(last: str, notice: Notice) -> str:
    """A chunk with an empty delta, otherwise like the one before it."""
    said: JsonObject = json.loads(last)
    head = {name: said[name] for name in ("id", "object", "created", "model") if name in said}
    choice = {"index": 0, "delta": {}, "finish_reason": None}
    return json.dumps({**head, "choices": [choice], "pendra": {"notice": notice.model_dump()}}, separators=(",", ":"))
