"""The engine's request of one prompt: what was asked, its own name, its own share of what was delivered."""

from __future__ import annotations

from dataclasses import fields

from tasks.contract import Job, JobKind
from worker.backends.generation import request_of
from worker.engine.api import SamplingParams
from worker.generate.request import TextRequest
from worker.generate.resumption import Delivered

JOB = Job(job_id="j1", attempt=2, kind=JobKind.COMPLETION, model="m", body={}, created=1, bridge_id="b")
ASKED = TextRequest(
    stop=("x",), max_tokens=9, min_tokens=2, ignore_eos=True, cache_prompt=False, stream=True, n=2, logprobs=3
)
GOT = Delivered(((1,), (), (5, 6), (7,)))


def test_all_that_was_asked_for_arrives():
    request = request_of(JOB, ASKED, (3, 4), GOT, sampling=SamplingParams(temperature=0.0), special=frozenset({9}))
    read_elsewhere = {"sampling", "biases", "stream"}
    for field in fields(TextRequest):
        if field.name not in read_elsewhere:
            assert getattr(request, field.name) == getattr(ASKED, field.name), field.name
    assert (request.prompt, request.sampling.temperature, request.special) == ((3, 4), 0.0, {9})


def test_each_prompt_has_its_name_and_its_own_choices():
    first, second = (request_of(JOB, ASKED, (3,), GOT, sampling=SamplingParams(), number=number) for number in (0, 1))
    assert (first.request_id, first.resume, first.resume_others) == ("j1:2", (1,), ((),))
    assert (second.request_id, second.resume, second.resume_others) == ("j1:2:1", (5, 6), ((7,),))
