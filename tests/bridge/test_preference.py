"""The same model on several backends: who serves, who comes next, what is said of all together."""

from __future__ import annotations

import pytest

from bridge.adverts import capacity_frame, models_frame, workers_frame
from bridge.effects import Acquire
from bridge.fleet import Fleet
from bridge.placement import Need, Plan, need_of, plan, refusal
from tasks.contract import JobKind, ModelInfo, WorkerInfo
from tests.bridge.builders import Driven, chunk, failed, job, worker

M = Need("m")
PICTURE = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}


def proxy(worker_id: str = "p1", backend: str = "ollama", *models: str, **fields: object) -> WorkerInfo:
    slots = fields.pop("slots", 2)
    rows = tuple(ModelInfo(id=model, backend=backend, **fields) for model in models or ("m",))
    return worker(worker_id, slots=slots, loaded=(), models=rows, role="proxy")


def fleet(*workers: WorkerInfo, order: tuple[str, ...] | None = None) -> Fleet:
    made = Fleet()
    made.order = order or made.order
    for info in workers:
        made.upsert(info, 0.0)
    return made


def hold(view: Fleet, worker_id: str, count: int, model: str = "m") -> Fleet:
    for n in range(count):
        view.hold(f"{worker_id}-{n}", worker_id, model)
    return view


def test_the_preferred_backend_serves_even_when_it_must_load_first() -> None:
    view = fleet(worker("gpu", loaded=(), installed=("m",)), proxy())
    assert plan(M, view) == Plan((("gpu", 2),), shared=False)


def test_the_shared_queue_is_for_equals_only() -> None:
    assert plan(M, fleet(worker("gpu"), proxy())) == Plan((("gpu", 2),), shared=False)
    assert plan(M, fleet(proxy("p1"), proxy("p2"))) == Plan((("p1", 2), ("p2", 2)), shared=True)


def test_the_order_can_be_chosen() -> None:
    view = fleet(worker("gpu"), proxy("p1"), proxy("p2", "vllm"), order=("vllm", "ollama", "pendra"))
    assert plan(M, view) == Plan((("p2", 2),), shared=False)


def test_who_would_have_to_wait_goes_to_the_next() -> None:
    view = hold(fleet(worker("gpu"), proxy()), "gpu", 2)
    assert plan(M, view) == Plan((("p1", 2),), shared=False)
    assert plan(M, hold(view, "p1", 2)) is None


def test_what_a_backend_lost_is_tried_on_the_next() -> None:
    view = fleet(worker("gpu"), proxy())
    assert plan(M, view, avoid="gpu") == Plan((("p1", 2),), shared=False)
    assert plan(M, fleet(worker("gpu")), avoid="gpu") == Plan((("gpu", 2),), shared=True)


def test_only_our_own_engine_goes_on_in_the_middle() -> None:
    view = fleet(worker("gpu"), proxy(), order=("ollama", "pendra"))
    assert plan(Need("m", resumes=True), view) == Plan((("gpu", 2),), shared=False)
    assert plan(Need("m", resumes=True), fleet(proxy())) is None


def test_an_external_servers_model_needs_no_load() -> None:
    assert plan(M, hold(fleet(proxy()), "p1", 1)) == Plan((("p1", 2),), shared=True)


def test_images_go_to_a_copy_that_sees() -> None:
    need = need_of(job(body=PICTURE))
    view = fleet(worker("gpu"), proxy(features=("vision",)))
    assert plan(need, view) == Plan((("p1", 2),), shared=False)
    assert refusal(need, view) is None


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        (job(kind="image_generation"), "wrong_capability", "'m' is for chat.*one for image; .* can: flux"),
        (job(kind="embeddings"), "wrong_capability", "no installed model does"),
        (job(body=PICTURE), "unsupported_content", "'m' does not take images; .* can: llava"),
        (job(kind="embeddings", pin="p1"), "wrong_capability", "'m' is for chat"),
    ],
)
def test_what_no_copy_can_do_is_refused_with_who_can(frame, code, words) -> None:
    view = fleet(
        proxy("p1", "ollama", "m", features=()),
        proxy("p2", "ollama", "flux", capability="image"),
        proxy("p3", "ollama", "llava", features=("vision",)),
    )
    problem = refusal(need_of(frame), view)
    assert problem is not None
    assert problem.code == code
    with pytest.raises(type(problem), match=words):
        raise problem


def test_a_completion_waits_in_line_with_chats() -> None:
    assert need_of(job(kind="completion")) == need_of(job())
    assert need_of(job()).kind is JobKind.CHAT


def test_a_model_is_listed_once_as_the_preferred_backend_has_it() -> None:
    view = fleet(
        proxy("a", "vllm", context_length=9),
        proxy("b", "ollama", features=("vision",), context_length=7),
        worker("c", loaded=(), models=(ModelInfo(id="m", loaded=True, context_length=5),)),
    )
    (row,) = models_frame(view).models
    assert (row.backend, row.context_length, row.loaded, row.features) == ("pendra", 5, True, ("vision",))


def test_a_proxy_that_found_nothing_is_no_worker() -> None:
    empty = worker("p1", slots=32, loaded=(), role="proxy")
    view = fleet(worker("gpu"), empty)
    assert [row.id for row in workers_frame(view).workers] == ["gpu"]
    assert capacity_frame(view, 0).slots_total == 2
    problem = refusal(M, fleet(empty))
    assert problem is not None
    assert problem.code == "no_worker"


def test_a_job_that_a_backend_refuses_before_its_first_token_goes_to_the_next() -> None:
    driven = Driven(proxy("p1", "ollama"), proxy("p2", "vllm"))
    driven.start("j1")
    again = next(
        effect
        for effect in driven.events(failed(1, code="backend_unavailable", retryable=True), worker_id="p1")
        if isinstance(effect, Acquire)
    )
    assert again.candidates == (("p2", 2),)


def test_after_the_first_token_nobody_goes_on() -> None:
    driven = Driven(proxy("p1", "ollama"), proxy("p2", "vllm"))
    driven.start("j1")
    driven.events(chunk(1, tokens=None), worker_id="p1")
    driven.events(failed(2, code="backend_error", retryable=True), worker_id="p1")
    (error,) = driven.of("error")
    assert (error["code"], error["status"]) == ("backend_error", 502)
