"""The screen of `pendra top`: a reading of the fleet as rich tables. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.fleet_reading import ModelLoad, Reading
from tasks.contract import JobRow, WorkerInfo
from tasks.figures import GpuFigures

_BARS = "▁▂▃▄▅▆▇█"
_METER = 10
MOST_JOBS = 15
_GB = 1e9


def screen(reading: Reading, past: Sequence[float] = (), note: str = "") -> RenderableType:
    """`past`: tokens a second before now, the oldest first. `note`: what is wrong ("" = nothing)."""
    parts: list[RenderableType] = [_head(reading, past)]
    if note:
        parts.append(Text(note, style="bold red"))
    if reading.workers:
        parts += ["", _workers(reading)]
    else:
        parts += ["", Text("no worker is there; start one with `pendra worker`, or everything with `pendra up`")]
    if models := reading.models():
        parts += ["", _models(models)]
    if reading.jobs:
        parts += ["", _jobs(reading.jobs)]
    return Group(*parts)


def sparkline(values: Sequence[float]) -> str:
    """One character a value, the highest one full."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)


def meter(busy: int, total: int) -> Text:
    filled = round(_METER * busy / total) if total else 0
    style = "red" if total and busy >= total else "green"
    return Text.assemble(("█" * filled, style), ("░" * (_METER - filled), "dim"), f" {busy}/{total}")


def _head(reading: Reading, past: Sequence[float]) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(reading.at))
    facts = (
        f"{_count(len(reading.workers), 'worker')} on {_count(reading.hosts, 'host')}",
        f"{reading.slots_busy}/{reading.slots_total} slots",
        f"{reading.waiting} waiting",
        f"{reading.tokens_per_second:.0f} tokens/s",
        _count(len(reading.bridges), "bridge"),
    )
    line = Text.assemble((f"pendra top {clock}  ", "bold"), " · ".join(facts))
    if past:
        line.append(f"  {sparkline(past)}", style="cyan")
    return line


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold", justify="right" if title in _RIGHT else "left")
    return table


_RIGHT = frozenset({"tokens/s", "running", "waiting", "age", "tokens", "context", "KV"})


def _workers(reading: Reading) -> Table:
    table = _table("worker", "device", "slots", "tokens/s", "KV", "GPU", "state", "models")
    for worker in reading.workers:
        table.add_row(
            worker.worker_id,
            worker.device,
            meter(min(worker.slots_busy, worker.slots_total), worker.slots_total),
            f"{reading.pace_of(worker.worker_id):.0f}",
            _kv(worker),
            "\n".join(_gpu(one) for one in worker.gpu),
            Text("draining", style="yellow") if worker.draining else Text("serving", style="green"),
            _model_names(worker),
        )
    return table


def _kv(worker: WorkerInfo) -> str:
    used = sum(engine.kv_cells_used for engine in worker.engines)
    total = sum(engine.kv_cells_total for engine in worker.engines)
    return f"{100 * used / total:.0f} %" if total else ""


def _gpu(gpu: GpuFigures) -> str:
    facts = [
        f"{gpu.memory_used / _GB:.1f}/{gpu.memory_total / _GB:.0f} GB"
        if gpu.memory_used is not None and gpu.memory_total
        else "",
        f"{100 * gpu.utilisation:.0f} %" if gpu.utilisation is not None else "",
        f"{gpu.temperature_c:.0f} °C" if gpu.temperature_c is not None else "",
        f"{gpu.power_w:.0f} W" if gpu.power_w is not None else "",
        f"{gpu.ecc_errors} ECC!" if gpu.ecc_errors else "",
    ]
    return " ".join(fact for fact in facts if fact)


def _model_names(worker: WorkerInfo) -> Text:
    """Those in memory stand out."""
    names = [(model.id, "bold" if model.ready else "dim") for model in worker.models]
    return Text(", ").join(Text(name, style=style) for name, style in names)


def _models(models: Iterable[ModelLoad]) -> Table:
    table = _table("model", "for", "backend", "context", "in memory", "running", "waiting")
    for row in models:
        info = row.info
        table.add_row(
            info.id,
            info.capability,
            info.backend,
            str(info.context_length or ""),
            f"{row.loaded} of {_count(row.holders, 'worker')}",
            str(row.running),
            str(row.waiting),
        )
    return table


def _jobs(jobs: Sequence[JobRow]) -> RenderableType:
    table = _table("request", "model", "state", "worker", "age", "tokens")
    for job in jobs[:MOST_JOBS]:
        table.add_row(job.job_id, job.model, job.state, job.worker_id, f"{job.age_s:.1f} s", str(job.tokens))
    hidden = len(jobs) - MOST_JOBS
    return Group(table, f"… and {hidden} more; `pendra jobs` lists them") if hidden > 0 else table


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
