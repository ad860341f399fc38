"""Every end of a request becomes one line, and nothing of the request is in it."""

from __future__ import annotations

import json

from bridge.audit_chain import AuditEntry
from bridge.auditor import Auditor
from bridge.protocol import Cancel
from tasks.errors import UnavailableError
from tests.bridge.builders import Driven, chunk, claimed, failed, finished, job, worker

SECRET = "the patient has a rare disease"


class Audited(Driven):
    def __init__(self, **options: object) -> None:
        self.entries: list[AuditEntry] = []
        auditor = Auditor(self.entries.append, lambda worker_id, model: f"sha-of-{model}-on-{worker_id}", lambda: 7.0)
        super().__init__(worker(), hooks=auditor, **options)

    def rows(self) -> list[dict[str, object]]:
        return [entry.fields() for entry in self.entries]


def test_a_request_that_ended_well() -> None:
    driven = Audited()
    driven.start(body={"messages": [SECRET]}, tenant="key-1")
    driven.events(claimed(), chunk(1, SECRET), finished(2, data=SECRET))
    (row,) = driven.rows()
    assert row == {
        "event": "request",
        "time": 7.0,
        "job": "j1",
        "tenant": "key-1",
        "kind": "chat",
        "model": "m",
        "model_sha256": "sha-of-m-on-w1",
        "worker": "w1",
        "outcome": "finished",
        "code": None,
        "sealed": False,
        "attempts": 1,
        "ms": 0,
        "prompt_tokens": 3,
        "completion_tokens": 2,
    }
    assert SECRET not in json.dumps(row)


def test_one_that_failed_on_its_worker() -> None:
    driven = Audited()
    driven.start()
    driven.events(claimed(), chunk(1, "a", tokens=(1, 2)), failed(2))
    (row,) = driven.rows()
    assert (row["outcome"], row["code"], row["worker"]) == ("failed", "out_of_memory", "w1")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (None, 2)


def test_one_that_was_refused_has_no_worker() -> None:
    driven = Audited()
    driven.send(job(model="nobody-has-it"))
    (row,) = driven.rows()
    assert (row["outcome"], row["worker"], row["attempts"]) == ("failed", None, 0)
    assert row["code"]


def test_one_that_its_client_gave_up() -> None:
    driven = Audited()
    driven.start()
    driven.events(claimed())
    driven.send(Cancel(job_id="j1"))
    assert [(row["outcome"], row["code"]) for row in driven.rows()] == [("cancelled", None)]


def test_an_upload_that_its_client_gave_up_half_way() -> None:
    driven = Audited()
    driven.send(job(blobs=("file",), tenant="key-1"))
    assert driven.rows() == []
    driven.send(Cancel(job_id="j1"))
    driven.send(Cancel(job_id="j1"))
    (row,) = driven.rows()
    assert (row["outcome"], row["code"], row["tenant"], row["worker"], row["attempts"]) == (
        "cancelled", None, "key-1", None, 0,
    )  # fmt: skip
    assert driven.session.open_jobs == 0
    assert not driven.of("error")


def test_an_upload_that_a_lost_link_cut_off_is_told_of_under_the_id_it_is_sent_again_with() -> None:
    driven = Audited()
    driven.send(job(blobs=("file",)))
    driven.session.unlinked()
    assert driven.rows() == []


def test_a_sealed_one_says_so() -> None:
    driven = Audited()
    driven.send(job(kids=("ab" * 32,)))
    assert [row["sealed"] for row in driven.rows()] == [True]


def test_while_the_log_cannot_be_written_none_is_taken() -> None:
    problem = UnavailableError("no audit", code="audit_unavailable")
    stands: list[UnavailableError | None] = [problem]
    driven = Audited(veto=lambda: stands[0])
    driven.send(job())
    assert [frame["code"] for frame in driven.of("error")] == ["audit_unavailable"]
    stands[0] = None
    driven.send(job("j2"))
    assert driven.of("accepted")


def test_nothing_stays_behind() -> None:
    driven = Audited()
    auditor = driven.session._ledger.hooks
    driven.start()
    driven.events(claimed(), finished(1))
    assert isinstance(auditor, Auditor)
    assert not auditor._seen
