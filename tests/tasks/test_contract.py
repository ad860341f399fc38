"""The contract: versions a little apart understand each other, and no repr shows a prompt."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.contract import EVENT, Chunk, Finished, Job, JobKind, Resume, Usage, WorkerInfo

JOB = Job(job_id="j", model="m", body={"messages": [{"content": "my secret"}]}, created=1, bridge_id="b")


def test_a_job_round_trips_with_its_binary_state():
    job = JOB.model_copy(update={"resume": Resume(token_ids=(5, 6), state=b"\0\xff\x80"), "attempt": 3})
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_a_newer_senders_unknown_fields_are_ignored():
    text = JOB.model_dump_json()[:-1] + ',"from_the_future": {"x": 1}}'
    assert Job.model_validate_json(text) == JOB


def test_nothing_of_a_prompt_or_reply_is_in_a_repr():
    chunk = Chunk(job_id="j", attempt=0, seq=1, data="my secret", tokens=(42424242,))
    done = Finished(job_id="j", attempt=0, seq=2, data="my secret")
    resumed = JOB.model_copy(update={"resume": Resume(token_ids=(42424242,))})
    shown = repr([JOB, chunk, done, resumed]) + str(chunk)
    assert "secret" not in shown
    assert "42424242" not in shown


def test_a_validation_error_does_not_quote_the_input():
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"job_id": "j", "body": "my secret", "kind": "my secret"})
    assert "my secret" not in str(caught.value)


def test_events_are_told_apart_by_type():
    event = EVENT.validate_json('{"type":"failed","job_id":"j","attempt":0,"seq":4,"code":"c","message":"m"}')
    assert type(event).__name__ == "Failed"
    assert event.retryable is False


def test_usage_has_openais_shape():
    usage = Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=2).openai()
    assert usage == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert Usage(reasoning_tokens=1).openai()["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_the_task_types_are_those_of_private_inference():
    assert {kind.value for kind in JobKind} >= {"chat", "embeddings", "rerank", "image_generation", "transcription"}


def test_things_of_the_contract_do_not_change():
    info = WorkerInfo(worker_id="w", epoch="e", name="n", node="h", pid=1, version="0", device="cpu0", slots_total=1)
    for frozen in (JOB, info):
        with pytest.raises(ValidationError):
            frozen.v = 2
