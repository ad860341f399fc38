"""The fleet's heartbeats as Prometheus families: workers, engines, loads, GPUs, external servers. Pure.

Every bridge of a fleet says the same of a worker, so queries take the `max by (worker, …)` of several bridges.
Beyond `MOST_WORKERS` workers only the totals count them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from prometheus_client.core import Metric

from bridge.metrics.families import Look, counter, gauge
from tasks.contract import BackendState, WorkerInfo
from tasks.figures import EngineFigures, GpuFigures

MOST_WORKERS = 500
MOST_ENGINES = 50  # of one worker
MOST_LOADS = 100

_ROLES = ("worker", "proxy")

_ENGINE_GAUGES = {
    "slots_total": ("pendra_engine_slots", "Requests that a model in memory serves at once."),
    "slots_busy": ("pendra_engine_slots_busy", "Those that are taken."),
    "waiting": ("pendra_engine_waiting", "Requests inside the engine without a slot."),
    "kv_cells_total": ("pendra_engine_kv_cells", "Tokens that the KV cache holds."),
    "kv_cells_used": ("pendra_engine_kv_cells_used", "Tokens in the KV cache: running requests and kept prefixes."),
}
_ENGINE_COUNTERS = {
    "steps": ("pendra_engine_steps", "Decode steps since the model was loaded."),
    "prompt_tokens": ("pendra_engine_prompt_tokens", "Prompt tokens since the model was loaded."),
    "cached_tokens": ("pendra_engine_cached_tokens", "Those of them found in the KV cache."),
    "completion_tokens": ("pendra_engine_completion_tokens", "Tokens generated since the model was loaded."),
    "drafted_tokens": ("pendra_engine_drafted_tokens", "Tokens guessed ahead."),
    "accepted_tokens": ("pendra_engine_accepted_tokens", "Guesses that were right."),
}
_GPU_GAUGES = {
    "memory_used": ("pendra_gpu_memory_used_bytes", "Memory in use, by anybody."),
    "memory_total": ("pendra_gpu_memory_bytes", "Memory of the GPU."),
    "temperature_c": ("pendra_gpu_temperature_celsius", "Temperature of the GPU."),
    "power_w": ("pendra_gpu_power_watts", "Power draw."),
    "utilisation": ("pendra_gpu_utilisation_ratio", "Share of the last moments in which a kernel ran, 0 to 1."),
}


def worker_families(seen: Look) -> Iterator[Metric]:
    yield from _totals(seen)
    rows = sorted(seen.picture.workers, key=lambda row: row[0].worker_id)[:MOST_WORKERS]
    infos = [info for info, _ in rows]
    yield from _workers(rows)
    yield from _engines(infos)
    yield from _loads(infos)
    yield from _gpus(infos)
    yield _backends(infos)


def _totals(seen: Look) -> Iterator[Metric]:
    roles = Counter({(role,): 0 for role in _ROLES})  # none at all is a number, too: alerts look for it
    roles.update((info.role,) for info, _ in seen.picture.workers)
    yield gauge("pendra_workers", "Workers that beat.", ("role",), roles)
    having = {(model,): count for model, count in seen.having.items()}
    yield gauge("pendra_model_workers", "Workers that have the model.", ("model",), having)
    ready = {(model,): seen.ready[model] for model in seen.having}
    yield gauge("pendra_model_workers_ready", "Workers that have it in memory.", ("model",), ready)


def _workers(rows: list[tuple[WorkerInfo, int]]) -> Iterator[Metric]:
    names = ("worker", "node", "role", "device", "version", "name")
    infos = {(i.worker_id, i.node, i.role, i.device, i.version, i.name): 1 for i, _ in rows}
    yield gauge("pendra_worker_info", "Who the workers are.", names, infos)
    only = ("worker",)
    yield gauge(
        "pendra_worker_slots", "Requests it serves at once.", only, {(i.worker_id,): i.slots_total for i, _ in rows}
    )
    yield gauge("pendra_worker_slots_busy", "Those it serves now.", only, {(i.worker_id,): busy for i, busy in rows})
    yield gauge(
        "pendra_worker_draining", "1 when it takes nothing new.", only, {(i.worker_id,): i.draining for i, _ in rows}
    )
    yield gauge(
        "pendra_worker_start_time_seconds",
        "When its process began, in seconds since 1970.",
        only,
        {(i.worker_id,): i.started_at for i, _ in rows},
    )


def _engines(infos: list[WorkerInfo]) -> Iterator[Metric]:
    rows: list[tuple[tuple[str, str], EngineFigures]] = [
        ((info.worker_id, one.model), one) for info in infos for one in islice(info.engines, MOST_ENGINES)
    ]
    for field, (name, about) in _ENGINE_GAUGES.items():
        yield gauge(name, about, ("worker", "model"), {key: getattr(one, field) for key, one in rows})
    for field, (name, about) in _ENGINE_COUNTERS.items():
        yield counter(name, about, ("worker", "model"), {key: getattr(one, field) for key, one in rows})


def _loads(infos: list[WorkerInfo]) -> Iterator[Metric]:
    rows = [
        ((info.worker_id, one.model, one.outcome), one) for info in infos for one in islice(info.loads, MOST_LOADS)
    ]
    labels = ("worker", "model", "outcome")
    about = "Loads of a model into memory, by outcome: ok, or the error's code."
    yield counter("pendra_model_loads", about, labels, {key: one.count for key, one in rows})
    about = "What those loads took together."
    yield counter("pendra_model_load_seconds", about, labels, {key: one.seconds for key, one in rows})


def _gpus(infos: list[WorkerInfo]) -> Iterator[Metric]:
    rows = [(info.worker_id, one) for info in infos for one in info.gpu]
    names = {(worker, one.uuid, one.name): 1 for worker, one in rows}
    yield gauge("pendra_gpu_info", "The GPUs of the workers.", ("worker", "gpu", "name"), names)
    for field, (name, about) in _GPU_GAUGES.items():
        yield gauge(name, about, ("worker", "gpu"), _known(rows, field))
    about = "Memory errors that could not be corrected, since the driver's start."
    yield counter("pendra_gpu_ecc_errors", about, ("worker", "gpu"), _known(rows, "ecc_errors"))


def _known(rows: Iterable[tuple[str, GpuFigures]], field: str) -> dict[tuple[str, ...], float]:
    """What a device does not say is no sample: 0 °C would be a lie."""
    values = {(worker, one.uuid): getattr(one, field) for worker, one in rows}
    return {key: value for key, value in values.items() if value is not None}


def _backends(infos: list[WorkerInfo]) -> Metric:
    rows = {
        (info.node, one.product): one.state is BackendState.FOUND
        for info in infos
        for one in info.backends
        if one.state is not BackendState.OFF
    }
    return gauge("pendra_backend_up", "1 while an external server is served.", ("node", "product"), rows)
