"""Files and large bodies in, audio and large replies out: what goes over the wire, and what the clients get."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from bridge.protocol import Blob, JobFrame
from ops.controlplane.uploads import _InMemory
from tasks.blobs import INLINE_BYTES, MAX_FILE_BYTES, PIECE_BYTES, cut, ref_of
from tasks.contract import ModelInfo
from tests.ops.controlplane.fake_bridge import MODEL, WORKER, FakeBridge
from tests.ops.controlplane.running import Running, serving

AUDIO = bytes(range(256)) * 4000  # 4 pieces
FORM = {"model": "whisper"}
TRANSCRIPTIONS = "/v1/audio/transcriptions"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, FakeBridge, Running]]:
    async with serving(tmp_path) as (api, bridge, running):
        infos = (
            ModelInfo(id=MODEL, loaded=True),
            ModelInfo(id="whisper", capability="transcription", backend="speaches"),
            ModelInfo(id="kokoro", capability="speech", backend="speaches"),
        )
        await bridge.advertise(model_infos=infos, models=(MODEL, "whisper", "kokoro"))
        await asyncio.to_thread(_until_listed, running, "kokoro")
        yield api, bridge, running


def _until_listed(running: Running, model: str) -> None:
    from tests.fakes.waiting import until

    until(lambda: model in httpx.get(f"{running.url}/healthz").json()["models"])


async def parts_of(bridge: FakeBridge, job: JobFrame) -> dict[str, bytes]:
    """All parts the job names, put together as a bridge would."""
    parts: dict[str, bytes] = {}
    for name in job.blobs:
        index, last, data = 0, False, b""
        while not last:
            blob = await bridge.next(Blob, lambda b, name=name: b.job_id == job.job_id and b.name == name)
            assert blob.index == index
            piece = base64.b64decode(blob.data)
            assert len(piece) <= PIECE_BYTES
            data, index, last = data + piece, index + 1, blob.last
        parts[name] = data
    return parts


async def answer(bridge: FakeBridge, said: Any) -> tuple[JobFrame, dict[str, bytes]]:
    job = await bridge.job()
    parts = await parts_of(bridge, job)
    await bridge.accept(job)
    await bridge.finish(job, 1, data=json.dumps(said))
    return job, parts


async def send_large(
    bridge: FakeBridge, job: JobFrame, text: str, *, before: bool, pieces: int | None = None
) -> None:
    data, name = text.encode(), "reply.0"
    blobs = [
        Blob(
            job_id=job.job_id,
            name=name,
            index=i,
            data=base64.b64encode(p).decode(),
            last=i * PIECE_BYTES + len(p) == len(data),
        )
        for i, p in enumerate(cut(data))
    ]
    for blob in blobs[: pieces if before else 0]:
        await bridge.send(blob)
    await bridge.finish(job, 1, data=None, blob=ref_of(name, len(data)))
    for blob in blobs[: 0 if before else pieces]:
        await bridge.send(blob)


@pytest.mark.parametrize(
    ("response_format", "said", "content_type"),
    [
        ("text", "Guten Tag", "text/plain"),
        ("srt", "1\n00:00:00,000 --> 00:00:01,000\nGuten Tag\n", "text/plain"),
        ("vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nGuten Tag\n", "text/vtt"),
    ],
)
async def test_a_transcription_as_text(world, response_format, said, content_type):
    api, bridge, _ = world
    answering = asyncio.create_task(answer(bridge, said))
    form = {**FORM, "response_format": response_format}
    reply = await api.post(TRANSCRIPTIONS, data=form, files={"file": ("a.wav", AUDIO)})
    assert (reply.status_code, reply.text) == (200, said)
    assert reply.headers["content-type"].startswith(content_type)
    assert reply.headers["x-worker-id"] == WORKER
    await answering


async def test_the_file_travels_in_pieces_and_the_form_as_a_body(world):
    api, bridge, _ = world
    answering = asyncio.create_task(answer(bridge, {"text": "hi"}))
    form = {**FORM, "language": "de", "temperature": "0.2", "timestamp_granularities[]": ["word", "segment"]}
    reply = await api.post("/api" + TRANSCRIPTIONS, data=form, files={"file": ("a.wav", AUDIO, "audio/wav")})
    assert reply.json()["text"] == "hi"
    job, parts = await answering
    assert parts == {"file": AUDIO}
    assert job.body == {
        "model": "whisper",
        "language": "de",
        "temperature": 0.2,
        "timestamp_granularities": ["word", "segment"],
        "file": {"filename": "a.wav", "content_type": "audio/wav"},
    }


async def test_the_official_client_transcribes_and_speaks(world):
    _, bridge, running = world
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0) as client:
        answering = asyncio.create_task(
            answer(bridge, {"text": "hi", "language": "en", "duration": 1.5, "segments": []})
        )
        said = await client.audio.transcriptions.create(
            model="whisper", file=("a.wav", AUDIO), response_format="verbose_json"
        )
        assert (said.text, said.duration) == ("hi", 1.5)
        await answering
        spoken = {"audio": base64.b64encode(AUDIO[:9999]).decode(), "content_type": "audio/mpeg"}
        answering = asyncio.create_task(answer(bridge, spoken))
        audio = await client.audio.speech.create(model="kokoro", input="hello", voice="af_heart")
        assert audio.read() == AUDIO[:9999]
        assert audio.response.headers["content-type"] == "audio/mpeg"
        await answering


@pytest.mark.parametrize(
    ("form", "files", "param"),
    [
        (FORM, {}, "file"),
        (FORM, {"file": ("a.wav", b"")}, "file"),
        ({}, {"file": ("a.wav", b"x")}, "model"),
        ({**FORM, "response_format": "xml"}, {"file": ("a.wav", b"x")}, "response_format"),
        ({**FORM, "temperature": "warm"}, {"file": ("a.wav", b"x")}, "temperature"),
        ({**FORM, "stream": "true"}, {"file": ("a.wav", b"x")}, "stream"),
    ],
)
async def test_forms_that_cannot_be_used_name_the_field(world, form, files, param):
    api, _, _ = world
    reply = await api.post(TRANSCRIPTIONS, data=form, files=files or {"other": ("b", b"x")})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_json_is_no_form(world):
    api, _, _ = world
    reply = await api.post(TRANSCRIPTIONS, json=FORM)
    assert reply.status_code == 400
    assert "multipart/form-data" in reply.json()["detail"]
    broken = await api.post(TRANSCRIPTIONS, content=b"x", headers={"content-type": "multipart/form-data"})
    assert broken.status_code == 400


async def test_a_file_that_is_too_large(world):
    api, _, _ = world
    reply = await api.post(TRANSCRIPTIONS, data=FORM, files={"file": ("a.wav", bytes(MAX_FILE_BYTES + 1))})
    assert reply.status_code == 413
    assert "25 MB" in reply.json()["detail"]


def test_files_never_touch_a_disk():
    assert _InMemory.spool_max_size > MAX_FILE_BYTES


async def test_a_model_that_cannot_hear_is_refused_with_those_that_can(world):
    api, _, _ = world
    reply = await api.post(TRANSCRIPTIONS, data={"model": MODEL}, files={"file": ("a.wav", b"x")})
    assert (reply.status_code, reply.json()["code"]) == (400, "wrong_capability")
    assert "whisper" in reply.json()["detail"]


@pytest.mark.parametrize("images", [True, False])
async def test_a_large_body_travels_in_pieces(world, images):
    api, bridge, _ = world
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * INLINE_BYTES}}
    content = [part] if images else "x" * INLINE_BYTES
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
    answering = asyncio.create_task(answer(bridge, {"choices": []}))
    assert (await api.post("/v1/chat/completions", json=body)).status_code == 200
    job, parts = await answering
    assert json.loads(parts["body"]) == body
    assert job.body == ({"messages": [{"content": [{"type": "image_url"}]}]} if images else {})


@pytest.mark.parametrize("before", [True, False])
async def test_a_large_reply_arrives_in_pieces_before_or_after_its_result(world, before):
    api, bridge, _ = world
    asking = asyncio.create_task(
        api.post("/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user"}]})
    )
    job = await bridge.job()
    await bridge.accept(job)
    text = json.dumps({"choices": [], "long": "ä" * 3_000_000}, ensure_ascii=False)
    await send_large(bridge, job, text, before=before)
    assert (await asking).json()["long"] == "ä" * 3_000_000
    await bridge.acked(job.job_id, 1)


async def test_a_large_reply_begins_anew_after_a_reconnect(world):
    api, bridge, _ = world
    asking = asyncio.create_task(
        api.post("/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user"}]})
    )
    job = await bridge.job()
    await bridge.accept(job)
    text = json.dumps({"choices": [], "long": "x" * 1_000_000})
    await send_large(bridge, job, text, before=True, pieces=2)
    await bridge.drop()
    bridge.resume_with = {job.job_id: 1}
    welcome = await bridge.connect()
    assert [mark.seq for mark in welcome.resume] == [0]  # the result is not acknowledged without its reply
    await send_large(bridge, job, text, before=False)
    assert len((await asking).json()["long"]) == 1_000_000


async def test_a_file_is_sent_again_to_a_bridge_that_lost_it(world):
    api, bridge, _ = world
    asking = asyncio.create_task(api.post(TRANSCRIPTIONS, data=FORM, files={"file": ("a.wav", AUDIO)}))
    first = await bridge.job()
    await bridge.next(Blob)
    await bridge.drop()
    bridge.frames.clear()
    await bridge.connect()
    again, parts = await answer(bridge, {"text": "hi"})
    assert again.job_id != first.job_id
    assert parts == {"file": AUDIO}
    assert (await asking).json()["text"] == "hi"


async def test_a_large_reply_with_a_hole_is_an_error_and_no_half_reply(world):
    api, bridge, _ = world
    asking = asyncio.create_task(
        api.post("/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user"}]})
    )
    job = await bridge.job()
    await bridge.accept(job)
    for index in (0, 2):
        await bridge.send(Blob(job_id=job.job_id, name="reply.0", index=index, data="AAAA"))
    reply = await asking
    assert (reply.status_code, reply.json()["code"]) == (502, "stream_gap")
    assert await bridge.cancelled() == job.job_id
