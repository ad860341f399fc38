"""Which bridge gets a request."""

from __future__ import annotations

import pytest

from bridge.protocol import WorkerAdvert
from ops.controlplane.placement import BridgeId, BridgeView, place
from tasks.contract import JobKind, ModelInfo
from tasks.errors import BadRequestError, NotFoundError, UnavailableError

A: BridgeId = ("key", "a")
B: BridgeId = ("key", "b")


def bridge(
    name: BridgeId,
    *models: str,
    free: int = 1,
    waiting: int = 0,
    capability: str = "chat",
    labels: tuple[str, ...] = (),
) -> BridgeView:
    worker = WorkerAdvert(
        id=f"{name[1]}-cpu0",
        name="",
        node="",
        version="",
        device="cpu",
        slots_total=4,
        slots_busy=0,
        models=models,
        labels=labels,
    )
    infos = {model: ModelInfo(id=model, capability=capability) for model in models}
    return BridgeView(name, (worker,), infos, free, waiting)


def test_only_who_has_the_model() -> None:
    assert place(JobKind.CHAT, "m", [bridge(A, "x"), bridge(B, "m")]) == B


def test_free_slots_first_then_the_shorter_queue() -> None:
    assert place(JobKind.CHAT, "m", [bridge(A, "m", free=0), bridge(B, "m")]) == B
    assert place(JobKind.CHAT, "m", [bridge(A, "m", free=1), bridge(B, "m", free=3)]) == B
    assert place(JobKind.CHAT, "m", [bridge(A, "m", free=0, waiting=5), bridge(B, "m", free=0, waiting=2)]) == B


def test_affinity_wins_unless_that_bridge_is_full() -> None:
    assert place(JobKind.CHAT, "m", [bridge(A, "m", free=9), bridge(B, "m", free=1)], preferred=B) == B
    assert place(JobKind.CHAT, "m", [bridge(A, "m"), bridge(B, "m", free=0)], preferred=B) == A


def test_a_pin_wins() -> None:
    bridges = [bridge(A, "m", free=9), bridge(B, "m", free=0)]
    assert place(JobKind.CHAT, "m", bridges, pin="b-cpu0", preferred=A) == B


def test_nobody_there() -> None:
    for bridges in ([], [BridgeView(A, (), {})]):
        with pytest.raises(UnavailableError, match="no worker is connected"):
            place(JobKind.CHAT, "m", bridges)


def test_not_found() -> None:
    bridges = [bridge(A, "m")]
    for model, pin, code in [
        ("x", None, "model_not_found"),
        ("listed", None, "model_not_installed"),
        ("m", "nobody", "worker_not_found"),
        ("x", "a-cpu0", "model_not_installed"),
    ]:
        with pytest.raises(NotFoundError) as caught:
            place(JobKind.CHAT, model, bridges, pin=pin, catalogue={"listed"})
        assert caught.value.code == code
        assert repr(pin or model)[1:-1] in caught.value.message


@pytest.mark.parametrize(
    ("kind", "capability", "fits"),
    [
        (JobKind.CHAT, "chat", True),
        (JobKind.COMPLETION, "chat", True),
        (JobKind.CHAT, "embedding", False),
        (JobKind.EMBEDDINGS, "embedding", True),
        (JobKind.RERANK, "chat", False),
        (JobKind.IMAGE, "image", True),
    ],
)
def test_a_model_does_what_it_is_for(kind: JobKind, capability: str, *, fits: bool) -> None:
    bridges = [bridge(A, "m", capability=capability)]
    if fits:
        assert place(kind, "m", bridges) == A
        return
    with pytest.raises(BadRequestError, match=f"is for {capability}") as caught:
        place(kind, "m", bridges)
    assert (caught.value.code, caught.value.param) == ("wrong_capability", "model")


def test_a_labelled_key_goes_where_a_worker_carries_all_its_labels() -> None:
    bridges = [bridge(A, "m", free=9, labels=("phi",)), bridge(B, "m", free=0, labels=("phi", "on-prem"))]
    assert place(JobKind.CHAT, "m", bridges, labels=("phi", "on-prem"), preferred=A) == B
    for pin in (None, "a-cpu0"):
        with pytest.raises(UnavailableError, match="eu") as refused:
            place(JobKind.CHAT, "m", bridges, labels=("eu",), pin=pin)
        assert refused.value.code == "no_labelled_worker"
