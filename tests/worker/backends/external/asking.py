"""What the tests of external backends share: a job, a reply that keeps what it is told, a client."""

from __future__ import annotations

import json
import ssl
from typing import Any, Unpack

import httpx

from tasks.contract import Job, JobKind, Notice, Timing, Usage
from tasks.errors import PendraError
from worker.backends.base import Ending

_TLS = ssl.create_default_context()  # made once: it reads all certificates of the system


class KeptReply:
    """A `worker.backends.base.Reply` that keeps everything."""

    def __init__(self) -> None:
        self.chunks: list[dict[str, Any]] = []
        self.tokens: list[Any] = []
        self.stages: list[str] = []
        self.data: str | None = None
        self.usage = Usage()
        self.timing = Timing()
        self.notice: Notice | None = None
        self.error: PendraError | None = None
        self.ended = False

    def progress(self, stage: str, fraction: float = 0.0) -> bool:
        self.stages.append(stage)
        return not self.ended

    def chunk(self, data: str, tokens: tuple[int, ...] | None = ()) -> bool:
        if not self.ended:
            self.chunks.append(json.loads(data))
            self.tokens.append(tokens)
        return not self.ended

    def finish(self, data: str | None = None, **ending: Unpack[Ending]) -> bool:
        self.data, self.notice = data, ending.get("notice")
        self.usage, self.timing = ending.get("usage", Usage()), ending.get("timing", Timing())
        return self._end()

    def fail(self, error: PendraError) -> bool:
        self.error = error
        return self._end()

    def _end(self) -> bool:
        first, self.ended = not self.ended, True
        return first

    @property
    def body(self) -> dict[str, Any]:
        assert self.data is not None
        return json.loads(self.data)

    @property
    def text(self) -> str:
        return "".join(delta.get("content") or "" for delta in self.deltas)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]


def job(kind: JobKind = JobKind.CHAT, *, stream: bool = False, model: str = "m", **body: Any) -> Job:
    if kind is JobKind.CHAT:
        body.setdefault("messages", [{"role": "user", "content": "hi"}])
    return Job(job_id="j1", kind=kind, model=model, stream=stream, body=body, created=7, bridge_id="b")


def http_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, verify=_TLS)
