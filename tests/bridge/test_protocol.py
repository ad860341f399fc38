from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.identity import Identity, generate_seed, sign_hello
from bridge.protocol import (
    Cancel,
    Challenge,
    ChunkEvent,
    ChunkFrame,
    JobFrame,
    UsageFrame,
    decode_api,
    decode_bridge,
    encode,
    signed_bytes,
)
from tasks.contract import Usage
from tasks.errors import BadRequestError
from tests.bridge.builders import job


def test_frames_survive_the_wire() -> None:
    assert decode_api(encode(job())) == job()
    chunk = ChunkFrame(events=(ChunkEvent(job_id="j", seq=1, data='{"é": "🎉"}'),))
    usage = UsageFrame(job_id="j", model="m", worker_id="w", usage=Usage(prompt_tokens=1))
    assert decode_bridge(encode(chunk)) == chunk
    assert decode_bridge(encode(usage)) == usage


def test_unknown_fields_are_ignored() -> None:
    assert decode_api('{"type": "cancel", "job_id": "j", "new": 1}') == Cancel(job_id="j")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("not json SECRET", "frame"),
        ('{"type": "SECRET"}', "frame"),
        ('{"type": "job", "body": "SECRET"}', "job.job_id"),
        (json.dumps({"type": "job", "job_id": "", "kind": "chat", "model": "m", "body": {}, "created": 0}), "job_id"),
    ],
)
def test_a_malformed_frame_names_the_field_and_quotes_nothing(text: str, where: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        decode_api(text)
    assert caught.value.code == "bad_frame"
    assert where in str(caught.value.param)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_malformed(number: str) -> None:
    """No comparison holds against NaN: a hello with it would pass the check of its clock."""
    me = Identity.from_base64(generate_seed())
    hello = encode(sign_hello(Challenge(nonce="n", time=1.0), me, worker_id="w", name="", version="", now=1000.0))
    assert decode_bridge(hello).type == "hello"
    with pytest.raises(BadRequestError, match=r"malformed frame: hello\.time: .*finite number") as caught:
        decode_bridge(hello.replace("1000.0", number))
    assert (caught.value.code, caught.value.param) == ("bad_frame", "hello.time")


def test_a_frame_of_the_other_direction_is_malformed() -> None:
    with pytest.raises(BadRequestError):
        decode_api('{"type": "accepted", "job_id": "j"}')


def test_a_jobs_repr_hides_its_body() -> None:
    assert "SECRET" not in repr(job(body={"messages": ["SECRET"]}))


@pytest.mark.parametrize("change", [{"nonce": "b"}, {"worker_id": "b"}, {"time": 1.001}, {"protocol": 2}])
def test_the_signature_covers_every_field(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"nonce": "a", "worker_id": "a", "time": 1.0, "protocol": 1}
    assert signed_bytes(**fields) != signed_bytes(**(fields | change))


def test_a_job_frame_needs_a_model() -> None:
    assert JobFrame.model_fields["model"].is_required()
