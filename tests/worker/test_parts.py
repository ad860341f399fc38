"""Large parts of a job, laid down by a bridge and fetched by the worker; on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from tasks import blobs, keys
from tasks.contract import Job
from tasks.errors import BadRequestError, PendraError, SealError, WorkerError
from tasks.redis_client import connect
from tasks.sealing import FleetKey, Opener, Sealer
from worker.parts import Parts

KEY = FleetKey(bytes(32))
FILE = bytes(range(256)) * 20_000  # 5 MB: more than one page


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


def job_with(client: redis.Redis, **parts: bytes) -> Job:
    for name, data in parts.items():
        client.hset(keys.blobs("j"), mapping=blobs.sealed(Sealer(KEY), keys.blobs("j"), name, data))
    refs = tuple(blobs.ref_of(name, len(data)) for name, data in parts.items())
    return Job(job_id="j", model="m", body={"language": "de"}, created=0, bridge_id="b", blobs=refs)


def test_a_file_is_handed_to_the_backend(client):
    job = Parts(client, Opener(KEY)).attached(job_with(client, file=FILE))
    assert job.parts == {"file": FILE}
    assert job.body == {"language": "de"}


def test_a_large_body_becomes_the_body(client):
    body = {"input": ["x" * 1000] * 1000}
    job = Parts(client, Opener(KEY)).attached(job_with(client, body=json.dumps(body).encode()))
    assert (job.body, job.parts) == (body, {})


def test_parts_never_travel_with_the_job_itself(client):
    job = Parts(client, Opener(KEY)).attached(job_with(client, file=b"secret"))
    assert "parts" not in job.model_dump()
    assert "secret" not in repr(job)


def test_a_lost_part_is_an_error_with_its_code(client):
    job = job_with(client, file=FILE)
    client.hdel(keys.blobs("j"), "file/17")
    with pytest.raises(WorkerError) as caught:
        Parts(client, Opener(KEY)).attached(job)
    assert caught.value.code == "blob_lost"


def test_another_jobs_part_does_not_open(client):
    job = job_with(client, file=FILE)
    client.rename(keys.blobs("j"), keys.blobs("other"))
    with pytest.raises(SealError):
        Parts(client, Opener(KEY)).attached(job.model_copy(update={"job_id": "other"}))


def test_a_body_that_is_no_object(client):
    with pytest.raises(BadRequestError):
        Parts(client, Opener(KEY)).attached(job_with(client, body=b"[]"))


def test_a_redis_that_refuses(client):
    job = job_with(client, file=FILE)
    client.delete(keys.blobs("j"))
    client.set(keys.blobs("j"), "of another type")
    with pytest.raises(PendraError) as caught:
        Parts(client, Opener(KEY)).attached(job)
    assert caught.value.code == "redis_unavailable"
