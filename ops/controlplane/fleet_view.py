"""The fleet as a console shows it: what all bridges advertise, each worker and model once. Pure, content-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bridge.protocol import WorkerAdvert
from ops.controlplane.bridges import Bridge, served_models


def fleet_view(bridges: Sequence[Bridge]) -> dict[str, Any]:
    """`bridges` (also those away for a moment), `workers`, `models`, `hosts`; each sorted by id."""
    workers = _workers(bridges)
    here = [bridge for bridge in bridges if bridge.link is not None]
    return {
        "bridges": sorted((_bridge(bridge) for bridge in bridges), key=lambda row: row["id"]),
        "workers": workers,
        "models": [
            model.model_dump(mode="json") | {"workers": sorted(set(holders))}
            for model, holders in served_models(here).values()
        ],
        "hosts": sorted({worker["node"] for worker in workers}),
    }


def sample(bridges: Iterable[Bridge], at: float) -> dict[str, Any]:
    """One point of the charts: `at` in seconds since the epoch, jobs waiting, slots, tokens a second."""
    here = [bridge for bridge in bridges if bridge.link is not None]
    workers = _workers(here)
    return {
        "at": round(at, 2),
        "waiting": sum(bridge.waiting for bridge in here),
        "slots_busy": sum(worker["slots_busy"] for worker in workers),
        "slots_total": sum(worker["slots_total"] for worker in workers),
        "tokens_per_second": round(sum(worker["tokens_per_second"] for worker in workers), 1),
    }


def _bridge(bridge: Bridge) -> dict[str, Any]:
    return {"id": bridge.worker_id, "connected": bridge.link is not None, "version": bridge.version}


def _workers(bridges: Iterable[Bridge]) -> list[dict[str, Any]]:
    """Bridges that share a Redis see the same workers: they count once."""
    rows: dict[str, dict[str, Any]] = {}
    for bridge in bridges:
        if bridge.link is None:
            continue
        for advert in bridge.workers:
            rows[advert.id] = _joined(rows.get(advert.id), advert)
    return [rows[worker_id] for worker_id in sorted(rows)]


def _joined(known: dict[str, Any] | None, advert: WorkerAdvert) -> dict[str, Any]:
    row = advert.model_dump(mode="json", exclude={"kids"})
    if known is None:
        return row
    return row | {
        "slots_busy": max(known["slots_busy"], row["slots_busy"]),
        "tokens_per_second": max(known["tokens_per_second"], row["tokens_per_second"]),
        "draining": known["draining"] or row["draining"],
    }
