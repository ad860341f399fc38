"""A control plane without a socket: its hub spoken to directly, and a bridge that says what it is told to say."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bridge.identity import Identity, sign_hello
from bridge.protocol import (
    Challenge,
    Frame,
    JobFrame,
    Keys,
    Models,
    ResultFrame,
    UsageFrame,
    WorkerAdvert,
    Workers,
    WorkloadKey,
    decode_api,
    encode,
)
from ops.controlplane import ensure_api_key
from ops.controlplane.app import Plane, make_app
from ops.controlplane.config import Config
from tasks.contract import JobKind, ModelInfo, Usage

KID = "ab" * 32
BRIDGE = Identity(bytes(32))
WORKER = "wrk-0a1b2c3d-cpu0"
MODELS = {"m": "chat", "e": "embedding", "r": "rerank", "p": "image", "w": "transcription", "s": "speech"}
WORDS = '{"choices":[],"data":[]}'
SPOKEN = '{"audio":"AAAA","content_type":"audio/mpeg"}'


class QuietLink:
    """Keeps what was sent, and the jobs among it."""

    def __init__(self, answer: Callable[[JobFrame], None] | None = None) -> None:
        self.jobs: list[JobFrame] = []
        self.closed = False
        self._answer = answer

    def send(self, text: str) -> None:
        frame = decode_api(text)
        if isinstance(frame, JobFrame):
            self.jobs.append(frame)
            if self._answer:
                self._answer(frame)

    def send_slowly(self, texts: Iterator[str]) -> None:
        for text in texts:
            decode_api(text)

    def close(self, code: int, reason: str) -> None:
        self.closed = True


class Connected:
    """One bridge, proved and advertised. `say` is what it sends."""

    def __init__(self, home: Path, answer: Callable[[JobFrame], None] | None = None) -> None:
        self.key = ensure_api_key(home)
        self.app = make_app(Config(home))
        self.plane: Plane = self.app.state.plane
        self.link = QuietLink(answer)
        challenge = Challenge(nonce=base64.b64encode(bytes(32)).decode(), time=0)
        hello = sign_hello(challenge, BRIDGE, worker_id="wrk-0a1b2c3d", name="b", version="1", now=0.0)
        bridge = self.plane.hub.connect(hello, self.link)
        assert bridge is not None
        self.bridge = bridge
        self.advertise()

    def say(self, *frames: Frame) -> None:
        for frame in frames:
            self.hear(encode(frame))

    def hear(self, text: str) -> None:
        self.plane.hub.received(self.bridge, self.link, text)

    def advertise(self) -> None:
        models = tuple(ModelInfo(id=name, capability=kind, loaded=True) for name, kind in MODELS.items())
        about: dict[str, Any] = {
            "id": WORKER,
            "name": "Büro",
            "node": "wrk-0a1b2c3d",
            "version": "1",
            "device": "cpu",
        }
        worker = WorkerAdvert(**about, slots_total=4, slots_busy=0, models=tuple(MODELS), kids=(KID,))
        self.say(
            Models(models=models), Workers(workers=(worker,)), Keys(keys=(WorkloadKey(kid=KID, public_key="AA"),))
        )


def ended(job: JobFrame, seq: int = 0) -> tuple[Frame, Frame]:
    """What a bridge says at a good end."""
    usage = UsageFrame(job_id=job.job_id, model=job.model, worker_id=WORKER, usage=Usage(completion_tokens=1))
    data = None if job.stream else SPOKEN if job.kind is JobKind.SPEECH else WORDS
    return usage, ResultFrame(job_id=job.job_id, seq=seq, worker_id=WORKER, data=data)
