"""A real model, from a cold store to its reply and out of memory again."""

from __future__ import annotations

import json
import time

import pytest

from tasks.contract import Job
from tasks.errors import JobCancelledError, PendraError
from tasks.settings import load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, chat
from tests.fakes.waiting import until
from tests.worker.runtime.world import loading
from worker.backends.base import CancelToken
from worker.runtime import Runtime


def test_a_real_model_from_a_cold_store(smollm2, tmp_path):
    (tmp_path / smollm2.name).symlink_to(smollm2)
    (tmp_path / f"{smollm2.name}.meta.json").write_text(json.dumps({"id": "smollm2:135m", "purpose": "chat"}))
    settings = load_settings(
        home=tmp_path, models_dir=tmp_path, worker_id="w", max_concurrent=2, context_length=512, threads=2
    )
    runtime = Runtime(settings, 2, DirectPublisher(), lambda: None)
    ask = {"messages": [{"role": "user", "content": "Name the capital of France in one short sentence."}]}
    job = chat(model="smollm2:135m", stream=False, temperature=0, max_tokens=24, cache_prompt=False, **ask)
    reply = RecordingReply(job)
    began = time.monotonic()
    runtime.serve(job, reply, CancelToken())
    took_ms = (time.monotonic() - began) * 1000
    assert "Paris" in json.loads(reply.finished.data)["choices"][0]["message"]["content"]
    timing = reply.finished.timing
    assert timing.cold_start
    assert 0 < timing.model_load_ms < took_ms
    assert timing.tokens_per_second > 0
    assert runtime.models()[0].model_dump(include={"id", "loaded", "context_length", "parameter_size"}) == {
        "id": "smollm2:135m",
        "loaded": True,
        "context_length": 512,
        "parameter_size": "135M",
    }
    assert runtime.stats()["smollm2:135m"].slots_total == 2
    runtime.close()
    assert runtime.loaded() == ()
    with pytest.raises(PendraError):
        runtime.serve(job, RecordingReply(job), CancelToken())


class LeavingReply(RecordingReply):
    """Cancels as soon as the load has got somewhere."""

    def __init__(self, job: Job, cancel: CancelToken) -> None:
        super().__init__(job)
        self._cancel = cancel

    def progress(self, stage: str, fraction: float = 0.0) -> bool:
        told = super().progress(stage, fraction)
        if fraction > 0:
            self._cancel.cancel()
        return told


def test_a_real_load_ends_with_the_request_that_wanted_it(smollm2, tmp_path):
    (tmp_path / smollm2.name).symlink_to(smollm2)
    model_id = smollm2.stem.lower()
    settings = load_settings(home=tmp_path, models_dir=tmp_path, worker_id="w", max_concurrent=1, context_length=512)
    runtime = Runtime(settings, 1, DirectPublisher(), lambda: None)
    job, cancel = chat(model=model_id, stream=False, max_tokens=1), CancelToken()
    reply = LeavingReply(job, cancel)
    with pytest.raises(JobCancelledError):
        runtime.serve(job, reply, cancel)
    until(lambda: not runtime._loads)
    assert runtime.loaded() == ()
    told = loading(reply)
    assert told[0] == 0
    assert 0 < told[-1] < 0.5
    assert len(told) == 2  # nothing was loaded, and nothing told, after the cancel
    again = RecordingReply(job)
    runtime.serve(job, again, CancelToken())
    assert len(loading(again)) > 5
    assert again.finished.timing.cold_start
    runtime.close()
