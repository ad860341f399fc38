"""The real runtime and engine in a real worker process, on a tiny random model: both ways to start it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tasks import keys
from tests.fakes.tiny_llama import write_tiny_llama
from tests.fakes.waiting import until
from tests.integration.worker_fleet import Fleet

pytestmark = pytest.mark.integration

BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "ignore_eos": True, "temperature": 0}
STARTS = {
    "celery": (sys.executable, "-m", "celery", "-A", "tasks", "worker"),
    "process": (sys.executable, "-m", "worker.process"),
}


@pytest.fixture(scope="module", params=sorted(STARTS))
def fleet(request, redis_server, tmp_path_factory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("fleet")
    write_tiny_llama(home / "tiny.gguf", n_ctx=32_768)  # room for what has to be cancelled while it runs
    fleet = Fleet(redis_server.url, home, "tiny", PENDRA_MODELS_DIR=str(home), PENDRA_THREADS="1")
    fleet.client.flushall()
    with fleet.worker("w1", slots=2, argv=STARTS[request.param]):
        yield fleet
    fleet.close()


def test_a_stream_comes_as_openai_chunks(fleet):
    fleet.submit("stream", body=BODY, stream=True)
    events = fleet.finished("stream")
    assert events[0].type == "claimed"
    assert [event.seq for event in events] == list(range(len(events)))
    chunks = [json.loads(event.data) for event in events if event.type == "chunk"]
    assert chunks[0]["object"] == "chat.completion.chunk"
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons[-1] == "length"
    assert events[-1].usage.completion_tokens == 8


def test_without_stream_the_reply_comes_whole(fleet):
    fleet.submit("whole", body=BODY)
    data = json.loads(fleet.finished("whole")[-1].data)
    assert data["object"] == "chat.completion"
    assert data["usage"]["completion_tokens"] == 8


def test_a_cancel_stops_the_decode_and_frees_the_slot(fleet):
    fleet.submit("long", body=BODY | {"max_tokens": 100_000}, stream=True)
    until(lambda: "chunk" in fleet.types("long"))
    fleet.cancel("long")
    assert fleet.finished("long")[-1].code == "cancelled"
    until(lambda: fleet.held() == set())
    until(lambda: fleet.info("w1").slots_busy == 0)


def test_a_model_that_is_not_there_is_a_404_in_words(fleet):
    fleet.submit("other", body=BODY, model="elsewhere", queue=keys.worker_queue("w1"))
    failed = fleet.finished("other")[-1]
    assert (failed.code, failed.retryable) == ("model_not_found", False)
    assert "elsewhere" in failed.message


def test_a_request_that_is_wrong_is_told_where(fleet):
    fleet.submit("wrong", body=BODY | {"temperature": "hot"})
    failed = fleet.finished("wrong")[-1]
    assert (failed.type, failed.param) == ("failed", "temperature")
