"""Files, audio and large bodies through the whole stack, by the official clients."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import pendra
import pytest

from tasks.redis_client import connect
from tests.acceptance.site import CHAT, Site
from tests.acceptance.stack import eventually
from tests.fakes.ollama_models import EMBEDDER
from tests.fakes.speaches_server import KOKORO, SRT, TEXT, VTT, WHISPER

MB = 1024 * 1024
SECRET = b"the patient said"
AUDIO = SECRET + bytes(range(256)) * (25 * MB // 256 - 1)


def left_in_redis(site: Site) -> set[bytes]:
    with closing(connect(site.stack.status_url())) as client:
        return {*client.scan_iter("pendra:blobs:*"), *client.scan_iter("pendra:reply:*")}


def test_a_file_of_25_mb_is_transcribed_and_nothing_of_it_stays(site: Site) -> None:
    said = site.openai.audio.transcriptions.create(model=WHISPER, file=("a.wav", io.BytesIO(AUDIO)), language="de")
    assert said.text == TEXT
    form = site.speaches.forms.pop()
    assert form["file"][2] == AUDIO
    assert form["language"] == "de"
    assert eventually(lambda: not left_in_redis(site)), left_in_redis(site)


@pytest.mark.parametrize(("response_format", "said"), [("text", TEXT), ("srt", SRT), ("vtt", VTT)])
def test_transcriptions_as_text(site: Site, response_format: str, said: str) -> None:
    reply = site.openai.audio.transcriptions.create(
        model=WHISPER, file=("a.wav", b"RIFF"), response_format=response_format
    )
    assert str(reply) == said


def test_a_verbose_transcription(site: Site) -> None:
    reply = site.openai.audio.transcriptions.create(
        model=WHISPER, file=("a.wav", b"RIFF"), response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (reply.text, reply.segments[0].end) == (TEXT, 1.5)
    assert site.speaches.forms[-1]["timestamp_granularities[]"] == ["segment"]


def test_pendras_client_transcribes_and_speaks(site: Site, tmp_path: Path) -> None:
    recording = tmp_path / "a.wav"
    recording.write_bytes(b"RIFF" * 100_000)
    with recording.open("rb") as file:
        assert site.pendra.audio.transcriptions.create(model=WHISPER, file=file).text == TEXT
    spoken = site.openai.audio.speech.create(model=KOKORO, input="hallo", voice="af_heart", response_format="wav")
    assert spoken.read() == site.speaches.audio
    assert spoken.response.headers["content-type"] == "audio/wav"


@pytest.mark.parametrize(("response_format", "said"), [("json", TEXT), ("srt", SRT)])
def test_a_sealed_recording_is_opened_by_the_proxy_worker_only(
    site: Site, tmp_path: Path, response_format: str, said: str
) -> None:
    recording = SECRET + bytes(10 * MB)
    site.speaches.forms.clear()
    private = {"tofu_path": str(tmp_path / "known.json")}
    with pendra.Pendra(api_key=site.stack.key, base_url=site.stack.url, private_inference=private) as client:
        reply = client.audio.transcriptions.create(
            model=WHISPER, file=("a.wav", recording), response_format=response_format
        )
    assert reply.text == said
    assert site.speaches.forms[-1]["file"][2] == recording


def test_audio_of_megabytes_comes_back(site: Site) -> None:
    small, site.speaches.audio = site.speaches.audio, bytes(range(256)) * 30_000
    try:
        spoken = site.openai.audio.speech.create(model=KOKORO, input="hallo", voice="af_heart")
        assert spoken.read() == site.speaches.audio
    finally:
        site.speaches.audio = small


def test_a_large_body(site: Site) -> None:
    inputs = [f"text number {number} " + "x" * 800 for number in range(2000)]
    reply = site.api.post("/v1/embeddings", json={"model": EMBEDDER.name, "input": inputs})
    assert reply.status_code == 200, reply.text[:500]
    assert len(reply.json()["data"]) == len(inputs)
    assert int(reply.request.headers["content-length"]) > MB


def test_a_large_chat_passes_a_vision_model_its_picture(site: Site) -> None:
    url = "data:image/png;base64," + "A" * (2 * MB)
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]
    refused = site.chat("blind:1b", messages=[{"role": "user", "content": content}])
    assert (refused.status_code, refused.json()["code"]) == (400, "unsupported_content")
    seen = site.chat("llava:7b", messages=[{"role": "user", "content": content}])
    assert seen.status_code == 200, seen.text


def test_speaches_installs_and_uninstalls(site: Site) -> None:
    model = "Systran/faster-whisper-small"
    assert site.managed("installs", model, backend="speaches")["state"] == "done"
    assert eventually(lambda: model in site.ids("transcription"))
    assert site.managed("uninstalls", model, backend="speaches")["state"] == "done"
    assert eventually(lambda: model not in site.ids())


def test_an_upstreams_refusal_of_a_file_is_the_clients(site: Site) -> None:
    reply = site.api.post(
        "/v1/audio/transcriptions", data={"model": WHISPER}, files={"file": ("a.txt", b"not audio")}
    )
    assert reply.status_code == 400
    assert "file type is not supported" in reply.json()["detail"]


def test_moderation_is_offered_by_nobody_and_the_answer_says_what_is(site: Site) -> None:
    reply = site.api.post("/v1/moderations", json={"input": "x"})
    assert (reply.status_code, reply.json()["code"]) == (400, "unsupported_endpoint")
    assert CHAT.name in reply.json()["detail"]
    assert WHISPER in reply.json()["detail"]


def test_nothing_of_a_file_is_logged(site: Site) -> None:
    logs = list(site.stack.home.rglob("*.log"))
    assert logs
    assert all(SECRET not in path.read_bytes() for path in logs)
