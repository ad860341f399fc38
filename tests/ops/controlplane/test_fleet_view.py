"""The fleet of several bridges as one: nobody counts twice."""

from __future__ import annotations

from typing import Any

from bridge.protocol import Capacity, Hello, Models, WorkerAdvert, Workers
from ops.controlplane.bridges import Bridge
from ops.controlplane.fleet_view import fleet_view, sample
from tasks.contract import ModelInfo


class NoLink:
    def send(self, text: str) -> None: ...
    def send_slowly(self, texts: Any) -> None: ...
    def close(self, code: int, reason: str) -> None: ...


def bridge(name: str, *adverts: WorkerAdvert, waiting: int = 0) -> Bridge:
    hello = Hello(
        worker_id=name, version="1.2", public_key=name, nonce="n", time=0.0, protocol=1, signature="s"
    )  # fmt: skip
    made = Bridge(hello, NoLink())
    made.advertise(Workers(workers=adverts))
    made.advertise(Models(models=(ModelInfo(id="m", loaded=True),)))
    made.advertise(Capacity(slots_total=4, slots_busy=1, waiting=waiting))
    return made


def advert(worker_id: str = "w1", **fields: Any) -> WorkerAdvert:
    base = {"name": "host", "node": "n1", "version": "1", "device": "gpu0", "slots_total": 4, "slots_busy": 1}
    return WorkerAdvert.model_validate({"id": worker_id, "models": ("m",), "kids": ("k",), **base, **fields})


def test_a_worker_that_two_bridges_see_is_one_worker() -> None:
    one = bridge("b1", advert(tokens_per_second=10.0), waiting=2)
    two = bridge("b2", advert(slots_busy=3, tokens_per_second=2.5, draining=True), waiting=1)
    (worker,) = fleet_view([two, one])["workers"]
    assert (worker["slots_busy"], worker["tokens_per_second"], worker["draining"]) == (3, 10.0, True)
    assert "kids" not in worker
    assert sample([one, two], 7.0) == {
        "at": 7.0, "waiting": 3, "slots_busy": 3, "slots_total": 4, "tokens_per_second": 10.0,
    }  # fmt: skip


def test_models_with_their_workers_and_the_hosts() -> None:
    view = fleet_view([bridge("b1", advert("w2", node="n2"), advert("w1"))])
    (model,) = view["models"]
    assert (model["id"], model["loaded"], model["workers"]) == ("m", True, ["w1", "w2"])
    assert view["hosts"] == ["n1", "n2"]


def test_a_bridge_that_is_away_is_shown_without_its_workers() -> None:
    away = bridge("b1", advert(), waiting=5)
    away.link = None
    view = fleet_view([away])
    assert view["bridges"] == [{"id": "b1", "connected": False, "version": "1.2"}]
    assert (view["workers"], view["models"]) == ([], [])
    assert sample([away], 0.0)["waiting"] == 0
