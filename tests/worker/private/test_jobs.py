"""A private job's way through the worker, on a real Redis; the official SDK opens what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pendra._streaming import PrivateStreamGuard

from tasks import keys
from tasks.contract import Chunk, Event, Job, JobKind, Notice, Resume
from tasks.errors import BadRequestError, WorkerError
from tasks.events import open_event, unpack
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener, Sealer, payload_aad
from tests.worker.private.sealed_by import MODEL, job, keyring, seal
from worker.private.keys import WorkloadKey
from worker.publisher import Publisher
from worker.running import Running
from worker.serve import Server

FLEET, KEY = FleetKey(bytes(32)), WorkloadKey.generate()
SECRET = "the-patient"
ASK = {"messages": [{"role": "user", "content": SECRET}]}
ENDED = {**ASK, "pendra_stream_terminator": 1}
CHUNK = json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": []})


class World:
    """A server around a runtime that is one function; `got` is the job it was given."""

    def __init__(self, client: redis.Redis, tmp_path: Path) -> None:
        self.client = client
        self.does: Callable[..., None] = lambda _job, reply, _cancel: reply.finish(json.dumps({"said": SECRET}))
        self.got: Job | None = None
        self.publisher = Publisher(client, "w", Sealer(FLEET))
        self.publisher.start()
        ring = keyring(tmp_path, KEY)
        self.server = Server(client, "w", Opener(FLEET), self.publisher, self, Running(), ring)

    def serve(self, job: Job, reply: Any, cancel: Any) -> None:
        self.got = job
        self.does(job, reply, cancel)

    def run(self, job: Job) -> list[Event]:
        """Lay the job down, serve it, and return what it has published."""
        sealed = Sealer(FLEET).seal(job.model_dump_json().encode(), payload_aad(job.job_id))
        row = {"payload": sealed, "attempt": job.attempt, "bridge": "b", "deadline": 0, "worker": "", "credit": "w"}
        self.client.hset(keys.job(job.job_id), mapping=row)
        before = len(self.said)
        self.server.serve(job.job_id, job.attempt)
        return self.said[before:]

    @property
    def said(self) -> list[Event]:
        rows = self.client.xrange(keys.replay("b"))
        return [open_event(one, Opener(FLEET)) for _, row in rows for one in unpack(row[b"b"])]


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    with connect(redis_url) as client:
        world = World(client, tmp_path)
        yield world
        world.publisher.stop()


def frames(events: list[Event]) -> list[str]:
    return [event.data for event in events if isinstance(event, Chunk)]


def test_a_whole_reply_is_one_frame(world):
    envelope, decryptor = seal(ASK, KEY)
    events = world.run(job(envelope))
    assert [event.type for event in events] == ["claimed", "finished"]
    assert world.got.body == {**ASK, "model": MODEL, "stream": False}
    assert SECRET not in str([event.model_dump() for event in events])
    plain = decryptor.open_result(json.loads(events[-1].data)["pendra_encrypted"])
    assert json.loads(plain) == {"said": SECRET}


def test_a_stream_begins_and_ends_with_its_marks(world):
    def does(_job, reply, _cancel):
        reply.chunk(CHUNK, (1, 2))
        reply.finish()

    world.does = does
    envelope, decryptor = seal(ENDED, KEY, stream=True)
    events = world.run(job(envelope, stream=True))
    assert "pendra_stream_terminator" not in world.got.body
    guard = PrivateStreamGuard(decryptor)
    assert [guard.open(data) for data in frames(events)] == [None, CHUNK, None]
    guard.end(eof=False)
    assert [event.tokens for event in events if isinstance(event, Chunk)] == [(), (), ()]


def test_a_stream_that_did_not_ask_for_marks_has_none(world):
    def does(_job, reply, _cancel):
        reply.chunk(CHUNK)
        reply.finish()

    world.does = does
    envelope, _ = seal(ASK, KEY, stream=True)
    assert len(frames(world.run(job(envelope, stream=True)))) == 1


def test_another_attempt_goes_on_in_the_same_reply(world):
    """The first worker's chunk, then its end from another: the SDK sees one stream."""

    def first(_job, reply, _cancel):
        reply.chunk(CHUNK, (7, 8))
        reply.fail(WorkerError("died"))

    world.does = first
    envelope, decryptor = seal(ENDED, KEY, stream=True)
    begun = [event for event in world.run(job(envelope, stream=True)) if isinstance(event, Chunk)]
    world.does = lambda _job, reply, _cancel: reply.finish()
    resume = Resume(kid=KEY.kid, steps=tuple(event.step for event in begun))
    rest = world.run(job(envelope, stream=True, attempt=1, first_seq=3, resume=resume))
    assert world.got.resume == Resume(token_ids=(7, 8))
    guard = PrivateStreamGuard(decryptor)
    assert [guard.open(data) for data in [*(one.data for one in begun), *frames(rest)]] == [None, CHUNK, None]
    guard.end(eof=False)


def test_after_the_first_mark_alone_the_text_begins_anew(world):
    world.does = lambda _job, reply, _cancel: (reply.chunk(CHUNK, ()), reply.fail(WorkerError("died")))
    envelope, _ = seal(ENDED, KEY, stream=True)
    mark = next(event for event in world.run(job(envelope, stream=True)) if isinstance(event, Chunk))
    world.client.hset(
        keys.private_reply(next(iter(world.client.scan_iter("pendra:sealed:*"))).decode()[14:]), "next", 1
    )
    world.run(job(envelope, stream=True, attempt=1, first_seq=2, resume=Resume(kid=KEY.kid, steps=(mark.step,))))
    assert world.got.resume is None


@pytest.mark.parametrize("job_id", ["j", "another"])
def test_a_sealed_request_is_answered_once(world, job_id):
    envelope, _ = seal(ASK, KEY)
    world.run(job(envelope))
    (_, failed) = world.run(job(envelope, job_id=job_id))
    assert failed.code == ("private_reply_lost" if job_id == "j" else "private_replayed")
    assert failed.retryable is False


def test_what_is_wrong_inside_is_told_by_its_code_alone(world, caplog):
    def does(_job, reply, _cancel):
        raise BadRequestError(f"'{SECRET}' is too long", code="context_length_exceeded", param=f"messages.{SECRET}")

    world.does = does
    failed = world.run(job(seal(ASK, KEY)[0]))[-1]
    assert (failed.code, failed.param) == ("context_length_exceeded", None)
    assert SECRET not in failed.message + caplog.text


@pytest.mark.parametrize("error", [ValueError(SECRET), WorkerError(SECRET)])
def test_no_failure_tells_content(world, caplog, error):
    def does(_job, reply, _cancel):
        raise error

    world.does = does
    failed = world.run(job(seal(ASK, KEY)[0]))[-1]
    assert failed.code == "worker_error"
    assert SECRET not in failed.message + caplog.text


def test_a_failure_the_backend_reports_is_veiled_too(world):
    world.does = lambda _job, reply, _cancel: reply.fail(BadRequestError(SECRET, param=SECRET))
    failed = world.run(job(seal(ASK, KEY)[0]))[-1]
    assert SECRET not in failed.message
    assert failed.param is None


@pytest.mark.parametrize(
    ("kind", "change", "code"),
    [
        (JobKind.CHAT, {"v": 1}, "bad_envelope"),
        (JobKind.RERANK, {}, "envelope_not_opened"),
        (JobKind.COMPLETION, {}, "unsupported_endpoint"),
    ],
)
def test_what_does_not_open_is_refused(world, kind, change, code):
    envelope, _ = seal(ASK, KEY)
    failed = world.run(job({**envelope, **change}, kind=kind))[-1]
    assert (failed.code, failed.retryable) == (code, False)


def test_a_key_that_left_this_worker_is_worth_another_one(world):
    failed = world.run(job(seal(ASK, WorkloadKey.generate())[0]))[-1]
    assert (failed.code, failed.retryable) == ("no_private_inference_worker", True)


@pytest.mark.parametrize("stream", [True, False])
def test_a_notice_is_inside(world, stream):
    def does(_job, reply, _cancel):
        if stream:
            reply.chunk(CHUNK)
        reply.finish(None if stream else "{}", notice=Notice(code="truncated_during_reasoning", message=SECRET))

    world.does = does
    envelope, decryptor = seal(ASK, KEY, stream=stream)
    events = world.run(job(envelope, stream=stream))
    assert events[-1].notice is None
    if stream:
        plain = [decryptor.open_chunk(json.loads(data)["pendra_encrypted"]) for data in frames(events)][-1]
    else:
        plain = decryptor.open_result(json.loads(events[-1].data)["pendra_encrypted"])
    assert json.loads(plain)["pendra"]["notice"]["message"] == SECRET


@pytest.mark.parametrize(
    ("wanted", "data", "inside"),
    [("srt", '"1\\nhi"', "1\nhi"), ("json", '{"text":"hi"}', {"text": "hi"})],
)
def test_a_transcription_gets_the_audio_and_answers_json(world, wanted, data, inside):
    world.does = lambda _job, reply, _cancel: reply.finish(data)
    envelope, decryptor = seal({"response_format": wanted}, KEY, task_type="transcription", binary=b"RIFF")
    events = world.run(job(envelope, kind=JobKind.TRANSCRIPTION))
    assert world.got.parts == {"file": b"RIFF"}
    plain = decryptor.open_result(json.loads(events[-1].data)["pendra_encrypted"])
    assert json.loads(plain) == inside


def test_a_worker_whose_job_is_somebody_elses_stops(world):
    """Its frames are refused, and with the first refusal it hears of it."""

    def does(job, reply, cancel):
        world.client.hset(keys.job(job.job_id), "attempt", 1)
        reply.chunk(CHUNK)
        assert cancel.wait(30)
        reply.finish()

    world.does = does
    events = world.run(job(seal(ENDED, KEY, stream=True)[0], stream=True))
    assert {event.type for event in events} <= {"claimed"}
    assert world.client.hget(keys.job("j"), "attempt") == b"1"  # the other's, untouched
