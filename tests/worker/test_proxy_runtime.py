"""Jobs for external servers: who gets them, who comes next, what a cancel does, what changes are told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tasks.contract import JobKind, Resume
from tasks.errors import BadRequestError, JobCancelledError, NotFoundError, PendraError, WorkerError
from tasks.sealing import FleetKey
from tasks.settings import load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, Served, chat
from tests.fakes.waiting import until
from tests.worker.backends.external.parts import HandProduct, answer, down, failing
from worker.backends.base import CancelToken
from worker.backends.external.product import ProductName
from worker.proxy_runtime import ProxyRuntime

OLLAMA, VLLM = "http://localhost:11434", "http://localhost:8000"


class World:
    """A runtime over two hand-made servers that both have the model `both`."""

    def __init__(self, tmp_path, **settings: object) -> None:
        self.ollama = HandProduct().put(OLLAMA, "both", "one")
        self.vllm = HandProduct(ProductName.VLLM, kinds=frozenset({JobKind.CHAT})).put(VLLM, "both")
        self.changes = 0
        key = FleetKey.generate().to_base64()
        given = load_settings(home=tmp_path, worker_id="wrk-1", fleet_key=key, **{"refresh_seconds": 60.0} | settings)
        products = (self.vllm, self.ollama)
        self.runtime = ProxyRuntime(given, 4, DirectPublisher(), self.changed, products=products)
        until(self.runtime.models)

    def changed(self) -> None:
        self.changes += 1

    def serve(self, model: str = "both", cancel: CancelToken | None = None, **job: object) -> RecordingReply:
        asked = chat(model=model, **job)
        reply = RecordingReply(asked)
        self.runtime.serve(asked, reply, cancel or CancelToken())
        return reply

    def refused(self, model: str = "both", **job: object) -> PendraError:
        with pytest.raises(PendraError) as refused:
            self.serve(model, **job)
        return refused.value

    def served_by(self) -> list[str]:
        return [str(product.name) for product in (self.ollama, self.vllm) for _ in product.jobs]


@pytest.fixture
def make(tmp_path):
    worlds: list[World] = []

    def made(**settings: object) -> World:
        worlds.append(World(tmp_path, **settings))
        return worlds[-1]

    yield made
    for world in worlds:
        world.runtime.close()


def test_the_preferred_server_serves_under_its_own_name_for_the_model(make):
    world = make()
    reply = world.serve()
    assert reply.finished
    assert world.ollama.jobs == [(OLLAMA, "own-both")]
    assert [model.id for model in world.runtime.models()] == ["both", "one"]
    assert all(model.ready and model.backend == "ollama" for model in world.runtime.models())


def test_the_order_can_be_chosen(make):
    world = make(backend_order="vllm")
    world.serve()
    assert world.served_by() == ["vllm"]


def test_the_next_one_serves_when_the_first_does_not_answer(make):
    world = make()
    world.ollama.script = down
    assert world.serve().finished
    assert world.served_by() == ["ollama", "vllm"]


def test_when_nobody_answers_the_last_word_is_worth_another_worker(make):
    world = make()
    world.ollama.script = world.vllm.script = down
    error = world.refused()
    assert (error.code, type(error)) == ("backend_unavailable", WorkerError)


@pytest.mark.parametrize("error", [BadRequestError("no"), WorkerError("HTTP 500", code="backend_error")])
def test_what_a_server_says_of_the_request_is_not_asked_of_another(make, error):
    world = make()
    world.ollama.script = failing(error)
    assert world.refused() is error
    assert world.served_by() == ["ollama"]


def test_a_server_that_lost_the_model_leaves_it_to_the_next(make):
    world = make()
    world.ollama.script = failing(NotFoundError("Ollama does not have it"))
    assert world.serve().finished
    assert world.served_by() == ["ollama", "vllm"]


@pytest.mark.parametrize(
    ("second", "code"), [(failing(NotFoundError("gone")), "model_not_found"), (down, "backend_unavailable")]
)
def test_a_model_is_gone_only_when_nobody_was_away(make, second, code):
    world = make()
    world.ollama.script, world.vllm.script = failing(NotFoundError("gone")), second
    assert world.refused().code == code


def test_a_server_that_is_gone_is_looked_for_at_once(make):
    world = make()
    world.ollama.script = down
    world.ollama.at.clear()
    world.serve()
    until(lambda: [model.backend for model in world.runtime.models()] == ["vllm"])


def test_what_appears_and_vanishes_is_told(make):
    world = make(refresh_seconds=0.02)
    world.ollama.put(OLLAMA, "both", "one", "two")
    before = world.changes
    until(lambda: len(world.runtime.models()) == 3)
    until(lambda: world.changes > before)
    world.ollama.at.clear()
    until(lambda: {model.backend for model in world.runtime.models()} == {"vllm"})
    assert {row.product: row.state for row in world.runtime.reports()}["ollama"] == "missing"


def test_an_install_is_seen_when_it_is_told(make):
    world = make()
    world.ollama.put(OLLAMA, "new")
    world.runtime.restore("new")
    until(lambda: "new" in {model.id for model in world.runtime.models()})


def test_only_the_models_that_may_be_served_are(make):
    world = make(models=["one"])
    assert [model.id for model in world.runtime.models()] == ["one"]
    assert world.refused("both").code == "backend_unavailable"


def test_a_kind_that_a_server_cannot_do_goes_to_one_that_can(make):
    world = make(backend_order="vllm")
    world.ollama.put(OLLAMA, "both", capability="embedding")
    world.runtime.look_soon()
    until(lambda: len(world.runtime.models()) == 1)
    world.serve(kind=JobKind.EMBEDDINGS)
    assert world.served_by() == ["ollama"]


def test_a_kind_that_nobody_can_do_is_refused_with_who_can(make):
    error = make().refused("one", kind=JobKind.EMBEDDINGS)
    assert (error.code, error.status) == ("wrong_capability", 400)


def test_a_kind_that_its_server_does_not_offer_is_refused_with_its_name(make):
    error = make().refused("one", kind=JobKind.COMPLETION)
    assert (error.code, error.message) == ("wrong_capability", "Ollama, which has 'one', does not serve completion")


def test_nobody_goes_on_with_a_reply_of_another(make):
    world = make()
    assert world.refused(resume=Resume(token_ids=(1, 2))).code == "backend_unavailable"
    assert world.served_by() == []
    assert world.serve(resume=Resume()).finished


def test_a_cancel_reaches_the_server(make):
    world = make()
    world.ollama.gate = asyncio.Event()
    cancel = CancelToken()
    served = Served(lambda: world.serve(cancel=cancel))
    until(lambda: world.ollama.jobs)
    cancel.cancel()
    assert isinstance(served.done(), JobCancelledError)
    assert world.ollama.closed == 1


def test_a_server_gets_no_more_at_once_than_its_limit_and_the_rest_goes_to_the_next(make):
    world = make(backend_limit=1)
    world.ollama.gate = gate = asyncio.Event()
    first = Served(world.serve)
    until(lambda: world.ollama.jobs)
    assert world.serve().finished
    assert world.served_by() == ["ollama", "vllm"]
    second = Served(lambda: world.serve("one"))
    until(lambda: world.runtime.stats()["proxy"].slots_busy == 2)
    assert len(world.ollama.jobs) == 1, "it waits for its turn"
    world.runtime._loop.post(gate.set)
    assert first.done() is None
    assert second.done() is None


def test_closing_ends_what_runs(make):
    world = make()
    world.ollama.gate = asyncio.Event()
    served = Served(world.serve)
    until(lambda: world.ollama.jobs)
    world.runtime.close()
    assert isinstance(served.done(), JobCancelledError)
    assert world.refused().code == "draining"


def test_a_silent_server_is_no_standstill_of_ours(make):
    world = make()
    world.ollama.gate = asyncio.Event()
    cancel = CancelToken()
    served = Served(lambda: world.serve(cancel=cancel))
    until(lambda: world.ollama.jobs)
    before = world.runtime.stats()["proxy"].steps
    until(lambda: world.runtime.stats()["proxy"].steps > before)
    cancel.cancel()
    assert isinstance(served.done(), JobCancelledError)


def test_uninstalling_a_built_in_model_is_no_business_of_ours(make):
    assert make().runtime.withdraw("both", force=False) == 0


def test_many_at_once(make):
    world = make()
    world.ollama.script = answer
    done = threading.Barrier(17, timeout=60)

    def one() -> None:
        assert world.serve().finished
        done.wait()

    threads = [Served(one) for _ in range(16)]
    done.wait()
    assert [thread.done() for thread in threads] == [None] * 16
