"""Against the fake Speaches server, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tasks.contract import Job, JobKind
from tasks.errors import BadRequestError, NotFoundError, PendraError, WorkerError
from tests.fakes.serving import serving
from tests.fakes.speaches_server import KOKORO, SRT, TEXT, VTT, WHISPER, SpeachesServer
from tests.fakes.vllm_server import VllmServer
from tests.fakes.waiting import until
from tests.worker.backends.external.asking import KeptReply, http_client, job
from worker.backends.external.product import Found, NotFoundHere, ProductName
from worker.backends.external.speaches import Speaches
from worker.backends.external.speaches.listing import rows_of, served
from worker.backends.external.upstream import Patience
from worker.backends.external.vllm import Vllm

PRODUCT = Speaches(patience=Patience(idle_s=0.5, pauses_s=(0.01, 0.02)), alive_every_s=0.02)
AUDIO = bytes(range(256)) * 4000


@pytest.fixture
def server() -> SpeachesServer:
    return SpeachesServer()


def recording(model: str = WHISPER, audio: bytes = AUDIO, **fields: Any) -> Job:
    about = {"filename": "a.wav", "content_type": "audio/wav"}
    made = job(JobKind.TRANSCRIPTION, model=model, file=about, **fields)
    return made.model_copy(update={"parts": {"file": audio}})


async def ask(url: str, asked: Job, reply: KeptReply | None = None) -> KeptReply:
    reply = reply or KeptReply()
    rows = [{"id": asked.model, "task": "automatic-speech-recognition"}]
    (model,) = served(rows_of({"data": rows}))
    async with http_client() as http:
        await PRODUCT.serve(http, Found(ProductName.SPEACHES, url), model, asked, reply)
    return reply


async def test_it_is_found_and_lists_its_models_with_what_they_are_for(url):
    async with http_client() as http:
        found = await PRODUCT.probe(http, url)
        models = await PRODUCT.models(http, found)
    assert (found.product, found.version) == (ProductName.SPEACHES, "0.8.3")
    assert {m.info.id: m.info.capability for m in models} == {WHISPER: "transcription", KOKORO: "speech"}
    assert all(m.info.ready for m in models)


async def test_one_without_models_is_found_by_its_document(server, url):
    server.models.clear()
    async with http_client() as http:
        assert (await PRODUCT.probe(http, url)).version == "0.8.3"


async def test_it_and_vllm_are_told_apart_by_what_they_answer(url):
    with serving(VllmServer().app()) as vllm_url:
        async with http_client() as http:
            with pytest.raises(NotFoundHere):
                await PRODUCT.probe(http, vllm_url)
            with pytest.raises(NotFoundHere):
                await Vllm().probe(http, url)
            assert (await Vllm().probe(http, vllm_url)).product is ProductName.VLLM


async def test_an_empty_list_of_somebody_else_is_not_it():
    app = Starlette(routes=[Route("/v1/models", lambda _: JSONResponse({"data": [], "object": "list"}))])
    with serving(app) as url:
        async with http_client() as http:
            with pytest.raises(NotFoundHere, match="lists nothing"):
                await PRODUCT.probe(http, url)


@pytest.mark.parametrize(("response_format", "said"), [("text", TEXT), ("srt", SRT), ("vtt", VTT)])
async def test_texts_are_json_strings(url, response_format, said):
    assert (await ask(url, recording(response_format=response_format))).body == said


async def test_json_and_verbose_json_are_objects(url):
    assert (await ask(url, recording())).body["text"] == TEXT
    verbose = (await ask(url, recording(response_format="verbose_json"))).body
    assert (verbose["language"], verbose["duration"], verbose["segments"][0]["end"]) == ("de", 1.5, 1.5)


async def test_the_form_holds_the_file_and_the_fields(server, url):
    fields = {"language": "de", "temperature": 0.2, "timestamp_granularities": ["word", "segment"], "prompt": "Ä"}
    await ask(url, recording(**fields))
    (form,) = server.forms
    assert form["file"] == ("a.wav", "audio/wav", AUDIO)
    assert (form["language"], form["temperature"], form["prompt"]) == ("de", "0.2", "Ä")
    assert form["timestamp_granularities[]"] == ["word", "segment"]
    assert form["model"] == WHISPER


async def test_speech_is_audio(server, url):
    reply = await ask(url, job(JobKind.SPEECH, model=KOKORO, input="hallo", voice="af_heart", response_format="wav"))
    assert base64.b64decode(reply.body["audio"]) == server.audio
    assert reply.body["content_type"] == "audio/wav"
    assert server.spoken == [{"model": KOKORO, "input": "hallo", "voice": "af_heart", "response_format": "wav"}]


async def test_a_burst_of_errors_is_waited_out(server, url):
    server.statuses = [503, 502]
    assert (await ask(url, recording())).body["text"] == TEXT


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        (recording(audio=b"not audio"), BadRequestError, "file type is not supported"),
        (recording(model="other/model"), NotFoundError, "not installed locally"),
        (job(JobKind.SPEECH, model=KOKORO, input="x"), BadRequestError, "voice: Field required"),
        (job(JobKind.TRANSCRIPTION, model=WHISPER), BadRequestError, "no audio"),
        (job(JobKind.CHAT, model=WHISPER), BadRequestError, "does not serve chat"),
    ],
)
async def test_what_it_refuses_says_why(url, asked, kind, words):
    with pytest.raises(kind, match=words):
        await ask(url, asked)


async def test_its_failures_are_ours_with_its_status(server, url):
    server.statuses = [500]
    with pytest.raises(WorkerError, match="Speaches answered HTTP 500") as caught:
        await ask(url, recording())
    assert caught.value.code == "backend_error"


async def test_audio_that_breaks_off_is_an_error_and_no_half_audio(server, url):
    server.die = True
    reply = KeptReply()
    with pytest.raises(PendraError, match="broke off"):
        await ask(url, job(JobKind.SPEECH, model=KOKORO, input="x", voice="v"), reply)
    assert not reply.ended


async def test_cancelling_closes_the_request_and_meanwhile_it_says_that_it_works(server, url):
    server.hang = True
    reply = KeptReply()
    running = asyncio.create_task(ask(url, recording(), reply))
    await asyncio.to_thread(until, lambda: reply.stages)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    server.hang = False


async def test_models_are_installed_and_removed(server, url):
    told: list[tuple] = []
    found, name = Found(ProductName.SPEACHES, url), "Systran/faster-whisper-small"
    async with http_client() as http:
        for _ in range(2):  # the second time it is there already
            await PRODUCT.install(http, found, name, lambda *step: told.append(step))
            assert name in server.models
        await PRODUCT.uninstall(http, found, name)
        assert name not in server.models
        with pytest.raises(NotFoundError):
            await PRODUCT.uninstall(http, found, name)
        with pytest.raises(NotFoundError):
            await PRODUCT.install(http, found, "no/such", lambda *_: None)
        with pytest.raises(WorkerError, match="gated"):
            await PRODUCT.install(http, found, "gated/model", lambda *_: None)
    assert told[0] == ("download", 0, None)
