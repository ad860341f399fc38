"""What the session tells its hooks becomes counts: driven through a real session."""

from __future__ import annotations

import pytest

from bridge.metrics.tally import MOST_MODELS, Tally
from bridge.protocol import Cancel
from tasks.contract import Finished, Usage, WorkerInfo
from tests.bridge.builders import Driven, batch, chunk, claimed, failed, finished, job, worker


class Counted(Driven):
    """A session whose tally knows the models that its fleet has."""

    def __init__(self, *workers: WorkerInfo) -> None:
        self.tally = Tally()
        super().__init__(*workers, hooks=self.tally)
        self.tally.served = self.session.readings.serves

    @property
    def counts(self):
        return self.tally.counts

    def start(self, job_id: str = "j1") -> None:
        self.send(job(job_id))
        self.do(self.session.attempts.taken(job_id, 0, "w1", 1, self.now))
        self.events(claimed(job_id))


def observed(part, model="m"):
    return sum(part[model].counts) if model in part else 0


def test_a_stream_is_measured_from_arrival_to_end():
    driven = Counted(worker())
    driven.send(job())
    driven.now += 0.3
    driven.do(driven.session.attempts.taken("j1", 0, "w1", 1, driven.now))
    driven.events(claimed())
    driven.now += 0.2
    driven.events(chunk(1))
    driven.now += 0.1
    driven.events(chunk(2, tokens=(7, 8)))
    driven.events(finished(3))
    counts = driven.counts
    assert counts.wait["m"].total == pytest.approx(0.3)
    assert counts.first_token["m"].total == pytest.approx(0.5)
    assert (observed(counts.between_tokens), counts.between_tokens["m"].total) == (2, pytest.approx(0.1))
    assert counts.duration["m"].total == pytest.approx(0.6)
    assert counts.jobs == {("m", "chat", "finished", "ok"): 1}


def test_tokens_are_those_of_the_usage_by_model_and_worker():
    driven = Counted(worker())
    driven.start()
    usage = Usage(prompt_tokens=9, cached_tokens=6, completion_tokens=4, reasoning_tokens=1)
    driven.events(Finished(job_id="j1", attempt=0, seq=1, data="{}", usage=usage))
    assert driven.counts.tokens == {
        ("m", "w1", "prompt"): 9,
        ("m", "w1", "cached"): 6,
        ("m", "w1", "completion"): 4,
        ("m", "w1", "reasoning"): 1,
    }


def test_a_role_without_tokens_is_not_the_first_token():
    driven = Counted(worker())
    driven.start()
    driven.events(chunk(1, tokens=()))
    assert observed(driven.counts.first_token) == 0
    driven.events(chunk(2))
    assert observed(driven.counts.first_token) == 1


def test_a_text_whose_tokens_nobody_counts_is_one_a_piece():
    driven = Counted(worker())
    driven.start()
    driven.events(chunk(1, tokens=None), chunk(2, tokens=None))
    assert (observed(driven.counts.first_token), observed(driven.counts.between_tokens)) == (1, 1)


def test_what_was_generated_for_nobody_is_wasted():
    driven = Counted(worker())
    driven.start()
    driven.events(chunk(1), chunk(2, tokens=(1, 2)))
    driven.send(Cancel(job_id="j1"))
    assert driven.counts.wasted == {("m", "cancelled"): 3}
    assert driven.counts.jobs == {("m", "chat", "cancelled", "ok"): 1}


def test_a_failure_is_counted_by_its_code():
    driven = Counted(worker())
    driven.start()
    driven.events(chunk(1), failed(2, code="out_of_memory"))
    assert driven.counts.jobs == {("m", "chat", "failed", "out_of_memory"): 1}
    assert driven.counts.wasted == {("m", "failed"): 1}
    assert not driven.counts.duration


def test_an_attempt_that_went_on_elsewhere_is_a_failover_and_waits_only_once():
    driven = Counted(worker(), worker("w2"))
    driven.start()
    driven.events(failed(1, code="worker_error", retryable=True))
    driven.do(driven.session.attempts.taken("j1", 1, "w2", 1, driven.now))
    driven.do(driven.session.events(batch(claimed(seq=1, attempt=1, worker_id="w2"), worker_id="w2"), driven.now))
    assert driven.counts.failovers == {("m", "w1", "worker_error"): 1}
    assert observed(driven.counts.wait) == 1


def test_a_model_that_nobody_has_is_other():
    driven = Counted(worker())
    driven.send(job(model="made-up"))
    assert driven.counts.jobs == {("other", "chat", "failed", "model_not_found"): 1}


def test_a_model_keeps_its_name_when_its_worker_is_gone():
    driven = Counted(worker())
    driven.start()
    driven.events(finished(1))
    driven.tick(5.0)
    driven.send(job("j2"))
    assert {key[0] for key in driven.counts.jobs} == {"m"}


def test_models_beyond_the_bound_share_one_name():
    names = [f"m{number}" for number in range(MOST_MODELS + 5)]
    tally = Tally()
    tally.served = lambda _: True
    assert [tally.model(name) for name in names][-5:] == ["other"] * 5
    assert tally.model("m0") == "m0"


def test_nothing_is_kept_of_a_job_that_ended():
    driven = Counted(worker())
    driven.start()
    driven.events(chunk(1), finished(2))
    assert driven.tally._open == {}


def test_installs_are_counted_by_host_and_cause():
    tally = Tally()
    tally.served = lambda _: True
    tally.install_ended("gpu-1", "")
    tally.install_ended("gpu-1", "disk_full")
    assert tally.counts.installs == {("gpu-1", "ok"): 1, ("gpu-1", "disk_full"): 1}


def test_a_copy_is_not_changed_by_what_comes_later():
    driven = Counted(worker())
    driven.start()
    copy = driven.counts.copy()
    driven.events(chunk(1), finished(2))
    assert (copy.jobs, copy.first_token) == ({}, {})
    assert observed(copy.wait) == 1
