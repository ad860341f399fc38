"""The API's end of the link, as little as it takes: sends jobs, checks every event of the replies, acknowledges.

It acknowledges like our control plane: each open job four times a second, and an end at once. Its CPU time is the
load generator's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.synthetic.stream import Latencies, Stream
from bench.synthetic.worker import MODEL
from bridge.identity import generate_nonce
from bridge.protocol import Challenge, JobFrame, JobMark, Welcome, encode
from ops.controlplane.config import Timers
from tasks.contract import JobKind

KEYS = 16  # API keys the jobs come from


class ApiEnd:
    """One bridge at a time. Everything on one event loop."""

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.streams: dict[str, Stream] = {}
        self.slots = 0
        self.links = 0
        self.tokens = 0
        self.ended = 0
        self._count = 0
        self._socket: ServerConnection | None = None
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(self._serve, "127.0.0.1", 0, compression=None)
        self._tasks = [asyncio.create_task(self._acknowledge())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def start(self, tokens: int, **fields: Any) -> Stream:
        """Send one job."""
        assert self._socket is not None
        self._count += 1
        stream = Stream(f"job-{self._count}", tokens, time.monotonic_ns())
        self.streams[stream.job_id] = stream
        frame = JobFrame(
            job_id=stream.job_id,
            kind=JobKind.CHAT,
            model=MODEL,
            stream=True,
            body={"tokens": tokens},
            created=int(time.time()),
            tenant=f"key-{self._count % KEYS}",
            **fields,
        )
        await self._socket.send(encode(frame))
        return stream

    # ------------------------------------------------------------------ the link

    async def _serve(self, socket: ServerConnection) -> None:
        await socket.send(encode(Challenge(nonce=generate_nonce(), time=time.time())))
        await socket.recv()
        marks = tuple(JobMark(job_id=s.job_id, seq=s.next_seq - 1) for s in self.streams.values())
        await socket.send(encode(Welcome(session="bench", resume=marks)))
        self._socket = socket
        self.links += 1
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await socket.recv()
                if (ended := self._received(json.loads(text), time.monotonic_ns())) is not None:
                    await self._ack(ended)

    def _received(self, frame: dict[str, Any], now_ns: int) -> Stream | None:
        """Returns the stream that ended with this frame."""
        match frame["type"]:
            case "chunk":
                for event in frame["events"]:
                    self._chunk(event, now_ns)
            case "progress" | "result" | "error" as kind:
                return self._other(kind, frame, now_ns)
            case "workers":
                self.slots = sum(worker["slots_total"] for worker in frame["workers"])
        return None

    def _chunk(self, event: dict[str, Any], now_ns: int) -> None:
        stream = self.streams.get(event["job_id"])
        if stream is not None:
            self.tokens += 1
            stream.take(event["seq"], event["data"], now_ns, self.latencies)

    def _other(self, kind: str, frame: dict[str, Any], now_ns: int) -> Stream | None:
        stream = self.streams.get(frame["job_id"])
        if stream is None:
            return None
        stream.take(frame["seq"], None, now_ns, self.latencies)
        if kind == "progress":
            return None
        stream.ended(kind if kind == "result" else f"{kind} {frame['code']}")
        self.ended += 1
        return stream

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(Timers().ack_every_s)
            with contextlib.suppress(ConnectionClosed):
                for stream in [s for s in self.streams.values() if s.next_seq - 1 > s.acked]:
                    await self._ack(stream)

    async def _ack(self, stream: Stream) -> None:
        assert self._socket is not None
        stream.acked = stream.next_seq - 1
        await self._socket.send(f'{{"type":"ack","job_id":"{stream.job_id}","seq":{stream.acked}}}')
