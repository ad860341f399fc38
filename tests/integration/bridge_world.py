"""A bridge between a fake API and a scripted worker, on a real Redis: for the bridge's integration tests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import redis
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.identity import Identity, generate_nonce, generate_seed, refusal
from bridge.process import Bridge
from bridge.protocol import Challenge, Frame, Hello, JobMark, Welcome, decode_bridge, encode
from tasks import keys
from tasks.contract import Chunk, Claimed, Event, Finished, Job, ModelInfo, Usage, WorkerInfo
from tasks.events import pack
from tasks.scripts import Claim, WorkerScripts
from tasks.sealing import FleetKey, Opener, Sealer, payload_aad
from tasks.settings import Settings, load_settings
from tests.fakes.waiting import PATIENCE_S

MODEL = "m"


async def eventually(look: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """The first truthy value of `look`. Raises AssertionError when time runs out."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout_s} s")
        await asyncio.sleep(0.005)
    return value


class FakeApi:
    """The API's side of the protocol: checks the hello, remembers frames, resumes what it still waits for."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.frames: list[dict[str, Any]] = []
        self.challenges = 0
        self.connections = 0
        self.waiting: set[str] = set()
        self.socket: ServerConnection | None = None
        self._server: Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self._port, compression=None)
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, socket: ServerConnection) -> None:
        nonce = generate_nonce()
        self.challenges += 1
        await socket.send(encode(Challenge(nonce=nonce, time=time.time())))
        hello = decode_bridge(await socket.recv())
        assert isinstance(hello, Hello)
        problem = refusal(hello, nonce=nonce, known=self.known, now=time.time())
        if problem is not None:
            await socket.close(problem.code, problem.reason)
            return
        marks = tuple(JobMark(job_id=job_id, seq=max(self.seqs(job_id), default=-1)) for job_id in self.waiting)
        await socket.send(encode(Welcome(session="s", resume=marks)))
        self.socket = socket
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._received(await socket.recv())

    def _received(self, text: str | bytes) -> None:
        decode_bridge(text)
        frame = json.loads(text)
        self.frames.append(frame)
        if frame["type"] in {"result", "error"}:
            self.waiting.discard(frame["job_id"])

    async def send(self, frame: Frame) -> None:
        assert self.socket is not None
        if frame.model_dump().get("type") == "job":
            self.waiting.add(frame.model_dump()["job_id"])
        await self.socket.send(encode(frame))

    def of(self, kind: str, job_id: str | None = None) -> list[dict[str, Any]]:
        return [f for f in self.frames if f["type"] == kind and job_id in {None, f.get("job_id")}]

    def text(self, job_id: str = "j1") -> str:
        return "".join(e["data"] for f in self.of("chunk") for e in f["events"] if e["job_id"] == job_id)

    def seqs(self, job_id: str = "j1") -> list[int]:
        """The seqs received of a job, in order of arrival."""
        out: list[int] = []
        for frame in self.frames:
            if frame["type"] == "chunk":
                out += [e["seq"] for e in frame["events"] if e["job_id"] == job_id]
            elif frame.get("job_id") == job_id and "seq" in frame:
                out.append(frame["seq"])
        return out

    def serves(self, worker_id: str = "w1") -> bool:
        """Whether the newest `workers` frame lists this worker."""
        adverts = self.of("workers")
        return bool(adverts) and worker_id in {w["id"] for w in adverts[-1]["workers"]}


class FakeWorker:
    """Beats, pops Celery messages and claims jobs in threads; the test says what it publishes."""

    def __init__(
        self, client: redis.Redis, key: FleetKey, worker_id: str = "w1", *, slots: int = 4, node: str = "host"
    ) -> None:
        self.info = WorkerInfo(
            worker_id=worker_id,
            epoch=f"{worker_id}-e1",
            name=worker_id.upper(),
            node=node,
            pid=1,
            version="1",
            device="cpu0",
            slots_total=slots,
            models=(ModelInfo(id=MODEL, loaded=True),),
        )
        self.jobs: dict[str, Job] = {}
        self.messages: list[dict[str, Any]] = []
        self.refused: list[Claim] = []
        self.cancels: list[dict[str, Any]] = []
        self.beating = True
        self.claiming = True
        self.running = True
        self._held = threading.Event()
        self._client = client
        self._scripts = WorkerScripts(client)
        self._sealer = Sealer(key)
        self._opener = Opener(key)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._pop, self._listen)]
        for thread in self._threads:
            thread.start()

    @property
    def id(self) -> str:
        return self.info.worker_id

    def stop(self) -> None:
        self.running = False
        for thread in self._threads:
            thread.join(PATIENCE_S)

    async def hold(self) -> None:
        """Pop nothing more; returns when that is certain. `claiming = True` ends it."""
        self._held.clear()
        self.claiming = False
        await eventually(self._held.is_set)

    def _while_running(self, step: Callable[[], None]) -> None:
        while self.running:
            try:
                step()
            except redis.RedisError:
                time.sleep(0.05)

    def _beat(self) -> None:
        self._while_running(self._beat_once)

    def _beat_once(self) -> None:
        if self.beating:
            pipe = self._client.pipeline(transaction=False)
            pipe.set(keys.worker_lease(self.id), self.info.epoch, px=int(keys.WORKER_LEASE_S * 1000))
            pipe.hset(keys.WORKERS, self.id, self.info.model_dump_json())
            pipe.publish(keys.FLEET, self.info.model_dump_json())
            pipe.execute()
        time.sleep(0.2)

    def _pop(self) -> None:
        self._while_running(self._pop_once)

    def _pop_once(self) -> None:
        if not self.claiming:
            self._held.set()
            time.sleep(0.01)
            return
        found: Any = self._client.brpop([keys.model_queue(MODEL), keys.worker_queue(self.id)], timeout=0.1)
        if found:
            self._claim(json.loads(found[1]))

    def _claim(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        kwargs = json.loads(base64.b64decode(message["body"]))[1]
        verdict, sealed = self._scripts.claim(kwargs["job_id"], kwargs["attempt"], self.id)
        if verdict is not Claim.OK:
            self.refused.append(verdict)
            return
        job = Job.model_validate_json(self._opener.open(sealed, payload_aad(kwargs["job_id"])))
        self.publish(
            Claimed(
                job_id=job.job_id,
                attempt=job.attempt,
                seq=job.first_seq,
                worker_id=self.id,
                worker_name=self.info.name,
            )
        )
        self.jobs[job.job_id] = job

    def _listen(self) -> None:
        self._while_running(self._listen_once)

    def _listen_once(self) -> None:
        with self._client.pubsub() as pubsub:
            pubsub.subscribe(keys.control(self.id))
            while self.running:
                message = pubsub.get_message(timeout=0.1)
                if message is not None and message["type"] == "message":
                    self.cancels.append(json.loads(message["data"]))

    # ---------------------------------------------------------------- what the test says

    def publish(self, *events: Event, live: bool = True) -> None:
        """One batch. Not `live`: pub/sub loses it, the replay stream does not. Repeats until Redis takes it."""
        bridge_id = self._bridge(events[0])
        data = pack(self.id, events, self._sealer)
        while True:
            try:
                pipe = self._client.pipeline(transaction=False)
                pipe.xadd(keys.replay(bridge_id), {"b": data})
                if live:
                    pipe.publish(keys.events(bridge_id), data)
                pipe.execute()
            except redis.RedisError:
                time.sleep(0.05)
            else:
                return

    def _bridge(self, event: Event) -> str:
        known = self.jobs.get(event.job_id)
        if known is not None:
            return known.bridge_id
        found: Any = self._client.hget(keys.job(event.job_id), "bridge")
        return str(found.decode())

    def chunk(self, seq: int, data: str, job_id: str = "j1", *, live: bool = True) -> None:
        attempt = self.jobs[job_id].attempt
        self.publish(Chunk(job_id=job_id, attempt=attempt, seq=seq, data=data, tokens=(seq,)), live=live)

    def finish(self, seq: int, job_id: str = "j1") -> None:
        attempt = self.jobs[job_id].attempt
        usage = Usage(prompt_tokens=2, completion_tokens=3)
        self.publish(Finished(job_id=job_id, attempt=attempt, seq=seq, usage=usage))
        self.release(job_id)

    def release(self, job_id: str) -> None:
        """Give the job's slot back."""
        self._scripts.release(job_id, self.jobs[job_id].attempt, worker_id=self.id)


class World:
    """Everything started; `stop` is what SIGTERM would set."""

    def __init__(self, api: FakeApi, settings: Settings, client: redis.Redis, key: FleetKey) -> None:
        self.api = api
        self.settings = settings
        self.client = client
        self.key = key
        self.workers: list[FakeWorker] = []
        self.begin()

    def begin(self) -> None:
        """A bridge process starts; also in place of one that has stopped."""
        self.stop = asyncio.Event()
        seed = self.settings.gpu_worker_private_key
        assert seed is not None
        self.bridge = Bridge(self.settings, Identity.from_base64(seed.get_secret_value()))
        self.running = asyncio.ensure_future(self.bridge.run(self.stop))

    async def worker(self, worker_id: str = "w1", **options: Any) -> FakeWorker:
        """A worker that the API knows of."""
        made = FakeWorker(self.client, self.key, worker_id, **options)
        self.workers.append(made)
        await eventually(lambda: self.api.serves(worker_id))
        return made

    async def claimed(self, worker: FakeWorker, job_id: str = "j1", attempt: int = 0) -> Job:
        """The job, once this worker has it and the API knows."""
        await eventually(lambda: job_id in worker.jobs and worker.jobs[job_id].attempt == attempt)
        job = worker.jobs[job_id]
        await eventually(lambda: job.first_seq in self.api.seqs(job_id))
        return job


@contextlib.asynccontextmanager
async def a_world(redis_url: str, home: Path, **more: Any) -> AsyncIterator[World]:
    """A fake API and a connected bridge; workers are added by the test. `more`: settings."""
    seed, key = generate_seed(), FleetKey.generate()
    api = FakeApi(Identity.from_base64(seed).public_key)
    await api.start()
    defaults: dict[str, Any] = {
        "home": home,
        "worker_id": "wrk-test",
        "app_server_ws_url": api.url,
        "gpu_worker_private_key": seed,
        "fleet_key": key.to_base64(),
        "redis_url": redis_url,
        "grace_seconds": 0.5,
    }
    settings = load_settings(**(defaults | more))
    client = redis.Redis.from_url(redis_url)
    client.set(keys.bridge_epoch(settings.worker_id), 1)  # the first bridge of a Redis would wait a second
    world = World(api, settings, client, key)
    try:
        await eventually(lambda: api.connections)
        yield world
    finally:
        world.stop.set()
        for worker in world.workers:
            await asyncio.to_thread(worker.stop)
        await asyncio.wait_for(world.running, 30)
        await api.stop()
        client.close()
