"""A bridge that does what a test tells it: a real websocket client speaking `bridge.protocol`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.identity import Identity, sign_hello
from bridge.protocol import (
    Accepted,
    Ack,
    ApiFrame,
    Cancel,
    Challenge,
    ChunkEvent,
    ChunkFrame,
    ErrorFrame,
    Frame,
    Hello,
    JobFrame,
    JobMark,
    Models,
    ProgressFrame,
    ResultFrame,
    Resume,
    UsageFrame,
    Welcome,
    WorkerAdvert,
    Workers,
    decode_api,
    encode,
)
from tasks.contract import ModelInfo, Timing, Usage

F = TypeVar("F", bound=ApiFrame)
MODEL = "smollm2:135m"
WORKER = "wrk-0a1b2c3d-cpu0"
LIMIT_S = 30.0

KID = "ab" * 32
"""A workload key that the worker holds."""


class FakeBridge:
    """Connects, says hello, advertises one worker with two models, and answers nothing by itself."""

    def __init__(self, ws_url: str, identity: Identity, worker_id: str = "wrk-0a1b2c3d") -> None:
        self.url = f"{ws_url}/ws/gpu"
        self.identity = identity
        self.worker_id = worker_id
        self.frames: list[ApiFrame] = []
        self.resume_with: dict[str, int] = {}
        self._news = asyncio.Condition()
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.welcome = await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---------------------------------------------------------------- the link

    async def open(self) -> Challenge:
        """Only the socket and the challenge; no hello."""
        self._socket = await connect(self.url, proxy=None)
        challenge = decode_api(await self._socket.recv())
        assert isinstance(challenge, Challenge)
        return challenge

    def hello(self, challenge: Challenge, **changes: Any) -> Hello:
        made = sign_hello(
            challenge,
            self.identity,
            worker_id=self.worker_id,
            name="test",
            version="9.9.9",
            now=time.time() + changes.pop("skew", 0),
        )
        return made.model_copy(update=changes)

    async def connect(self, *, advertise: bool = True) -> Welcome:
        challenge = await self.open()
        await self.send(self.hello(challenge))
        assert self._socket is not None
        welcome = decode_api(await self._socket.recv())
        assert isinstance(welcome, Welcome)
        self._reader = asyncio.create_task(self._read(self._socket))
        marks = tuple(JobMark(job_id=job_id, seq=seq) for job_id, seq in self.resume_with.items())
        await self.send(Resume(jobs=marks))
        if advertise:
            await self.advertise()
        return welcome

    async def advertise(self, **changes: Any) -> None:
        advert = {
            "id": WORKER,
            "kids": (KID,),
            "name": "Büro-Rechner",
            "node": self.worker_id,
            "version": "1.2.3",
            "device": "cpu",
            "slots_total": 4,
            "slots_busy": 0,
            "models": (MODEL, "minilm"),
        }
        models = (
            ModelInfo(id=MODEL, context_length=8192, quantisation="Q4_1", loaded=True),
            ModelInfo(id="minilm", capability="embedding"),
        )
        await self.send(Models(models=changes.pop("model_infos", models)))
        await self.send(Workers(workers=(WorkerAdvert.model_validate({**advert, **changes}),)))

    async def send(self, frame: Frame) -> None:
        await self.send_text(encode(frame))

    async def send_text(self, text: str) -> None:
        assert self._socket is not None
        await self._socket.send(text)

    async def closed(self) -> tuple[int | None, str | None]:
        """Waits until the API closes; the code and reason."""
        assert self._socket is not None
        await asyncio.wait_for(self._socket.wait_closed(), LIMIT_S)
        return self._socket.close_code, self._socket.close_reason

    async def drop(self) -> None:
        """The network goes away: no closing handshake."""
        assert self._socket is not None
        self._socket.transport.abort()
        await self._join()

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        await self._join()

    async def _join(self) -> None:
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                async with self._news:
                    self.frames.append(decode_api(text))
                    self._news.notify_all()
        except ConnectionClosed:
            pass

    # ---------------------------------------------------------------- what came

    async def next(self, kind: type[F], match: Callable[[F], bool] = lambda _: True) -> F:
        """Takes the first such frame out, waiting for it."""

        def find() -> F | None:
            return next((f for f in self.frames if isinstance(f, kind) and match(f)), None)

        async with asyncio.timeout(LIMIT_S), self._news:
            await self._news.wait_for(lambda: find() is not None)
        found = find()
        assert found is not None
        self.frames.remove(found)
        return found

    async def job(self) -> JobFrame:
        return await self.next(JobFrame)

    async def cancelled(self) -> str:
        return (await self.next(Cancel)).job_id

    async def acked(self, job_id: str, seq: int) -> Ack:
        return await self.next(Ack, lambda ack: ack.job_id == job_id and ack.seq == seq)

    # ---------------------------------------------------------------- a worker's part

    async def accept(self, job: JobFrame) -> None:
        """Accepted by the bridge, claimed by the worker (seq 0)."""
        await self.send(Accepted(job_id=job.job_id))
        await self.send(
            ProgressFrame(job_id=job.job_id, seq=0, stage="claimed", worker_id=WORKER, worker_name="Büro-Rechner")
        )

    async def chunk(self, job: JobFrame, seq: int, text: str) -> None:
        await self.send(ChunkFrame(events=(ChunkEvent(job_id=job.job_id, seq=seq, data=chunk(job, text)),)))

    async def finish(self, job: JobFrame, seq: int, **fields: Any) -> None:
        await self.send(UsageFrame(job_id=job.job_id, model=job.model, worker_id=WORKER, usage=USAGE))
        await self.send(ResultFrame(job_id=job.job_id, seq=seq, **{**RESULT, **fields}))

    async def fail(self, job: JobFrame, seq: int, **fields: Any) -> None:
        base = {"code": "worker_error", "message": "it broke", "status": 502, "worker_id": WORKER}
        await self.send(ErrorFrame(job_id=job.job_id, seq=seq, **{**base, **fields}))

    async def serve_stream(self, words: list[str], **fields: Any) -> JobFrame:
        """A whole streamed reply with its usage chunk."""
        job = await self.job()
        await self.accept(job)
        for number, word in enumerate(words, 1):
            await self.chunk(job, number, word)
        after = len(words) + 1
        await self.send(ChunkFrame(events=(ChunkEvent(job_id=job.job_id, seq=after, data=usage_chunk(job)),)))
        await self.finish(job, after + 1, **fields)
        return job

    async def serve_whole(self, text: str, **fields: Any) -> JobFrame:
        job = await self.job()
        await self.accept(job)
        await self.finish(job, 1, data=completion(job, text), **fields)
        return job


USAGE = Usage(prompt_tokens=11, completion_tokens=7, cached_tokens=2)
RESULT: dict[str, Any] = {
    "worker_id": WORKER,
    "worker_name": "Büro-Rechner",
    "worker_version": "1.2.3",
    "timing": Timing(ttft_ms=12.6, tokens_per_second=88.123, worker_queue_wait_ms=1.4, cold_start=False),
    "queue_wait_ms": 3.2,
}


def _head(job: JobFrame, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-w-{job.job_id}", "object": kind, "created": job.created, "model": job.model}


def chunk(job: JobFrame, text: str) -> str:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return json.dumps({**_head(job, "chat.completion.chunk"), "choices": [choice]}, ensure_ascii=False)


def usage_chunk(job: JobFrame) -> str:
    return json.dumps({**_head(job, "chat.completion.chunk"), "choices": [], "usage": USAGE.openai()})


def completion(job: JobFrame, text: str) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({**_head(job, "chat.completion"), "choices": [choice], "usage": USAGE.openai()})
