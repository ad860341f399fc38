"""How many requests a model serves at once and how long each may be, from the memory there is.

All of it is pure but `slots_from_memory`, which asks the store and the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import ConfigError, WorkerError

if TYPE_CHECKING:
    from tasks.settings import Settings
    from worker.store.catalogue import Entry

MIN_SLOTS, MAX_SLOTS = 1, 64
MAX_SLOTS_CPU = 8
"""On a CPU the tokens a second of all requests together hardly rise beyond 8 at once, while every slot costs memory
and start-up time."""

DEFAULT_CTX = 8192
SMALLEST_CTX = 1024
"""Rather fewer slots than shorter ones."""

SHARE_GPU, SHARE_CPU = 0.9, 0.5
"""What of the free memory we take. A CPU's memory also serves the rest of the machine, and our sibling workers."""

RESERVE = 512 * 1024**2
"""llama.cpp's compute buffers: logits of one batch (512 × 150,000 × 4 bytes at most) and activations."""


POOLED = frozenset({"embedding", "rerank"})
"""Purposes of models whose texts become vectors: those keep nothing between two batches."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`ctx_per_slot`: tokens a request may hold, prompt and reply together."""

    slots: int
    ctx_per_slot: int

    def bytes_with(self, model_bytes: int, kv_bytes_per_token: int) -> int:
        """The memory a model takes under this plan, without the reserve."""
        return model_bytes + self.slots * self.ctx_per_slot * kv_bytes_per_token


@dataclass(frozen=True, slots=True)
class Demand:
    """What a model asks of the device that serves it. `n_ctx_train`: what it was trained for, 0 = not known."""

    model_bytes: int
    kv_bytes_per_token: int
    n_ctx_train: int = 0

    def on_gpu(self, blocks: int, n_gpu_layers: int) -> Demand:
        """The part of it that goes to the GPU when only some layers do (-1 = all)."""
        if n_gpu_layers < 0 or not blocks or n_gpu_layers >= blocks:
            return self
        part = n_gpu_layers / blocks
        return Demand(int(self.model_bytes * part), int(self.kv_bytes_per_token * part), self.n_ctx_train)


def wanted_ctx(n_ctx_train: int, context_length: int | None) -> int:
    """Context per slot when memory is plenty. `n_ctx_train` 0 = not known."""
    want = context_length or DEFAULT_CTX
    return min(want, n_ctx_train) if n_ctx_train else want


def usable(free_bytes: int, *, cpu: bool) -> int:
    """What a model and its KV cache may take of the free memory."""
    return max(0, int(free_bytes * (SHARE_CPU if cpu else SHARE_GPU)) - RESERVE)


def plan_slots(
    free_bytes: int,
    model_bytes: int,
    kv_bytes_per_token: int,
    n_ctx_train: int,
    max_concurrent: int | None = None,
    context_length: int | None = None,
    *,
    cpu: bool,
) -> Plan:
    """Slots and context for one model on a device with `free_bytes` free.

    - Of the free memory we use a share (90 % on a GPU, 50 % on a CPU) less a reserve for compute buffers; the weights
      take `model_bytes` of it, the rest is KV cache.
    - Context per slot: the smallest of what the model was trained for, `context_length` (unset: 8192) and what memory
      allows.
    - Slots: `max_concurrent` (MAX_CONCURRENT) if set, else as many as fit at that context; always within 1 to 64, and
      if unset at most 8 on a CPU.
    - With `max_concurrent` set, slots keep their number and get shorter, down to 1024 tokens; below that there are
      fewer of them.

    Raises WorkerError(`out_of_memory`) when not even one slot of 1024 tokens (or of the whole context, if that is
    shorter) fits.
    """
    want = wanted_ctx(n_ctx_train, context_length)
    least = min(want, SMALLEST_CTX)
    room = usable(free_bytes, cpu=cpu) - model_bytes
    most = max(MIN_SLOTS, min(max_concurrent or (MAX_SLOTS_CPU if cpu else MAX_SLOTS), MAX_SLOTS))
    cells = room // kv_bytes_per_token if kv_bytes_per_token else most * want
    if room < 0 or cells < least:
        raise _too_large(free_bytes, model_bytes + least * kv_bytes_per_token, cpu=cpu)
    slots = max(MIN_SLOTS, min(most, cells // (least if max_concurrent else want)))
    return Plan(slots, min(want, cells // slots))


def most_slots(demands: Iterable[Demand], free_bytes: int, context_length: int | None, *, cpu: bool) -> int:
    """Slots of a process that may serve any of these models, one at a time: those of the model with the most."""
    found = []
    for demand in demands:
        try:
            plan = plan_slots(
                free_bytes,
                demand.model_bytes,
                demand.kv_bytes_per_token,
                demand.n_ctx_train,
                context_length=context_length,
                cpu=cpu,
            )
        except WorkerError:
            continue
        found.append(plan.slots)
    return max(found, default=MAX_SLOTS_CPU if cpu else MAX_SLOTS)


def together(demands: Iterable[Demand]) -> Demand:
    """Several models in memory at once, as if they were one."""
    rows = tuple(demands)
    return Demand(
        sum(row.model_bytes for row in rows),
        sum(row.kv_bytes_per_token for row in rows),
        max((row.n_ctx_train for row in rows), default=0),
    )


def demand_of(entry: Entry, *, cpu: bool, n_gpu_layers: int = -1) -> Demand:
    """What a model of the store asks for.

    An embedding model's requests share room for one input: a KV cache if it has one, else buffers of that order.
    """
    info = entry.info
    if info is None:
        return Demand(entry.size_bytes, 0)
    demand = Demand(entry.size_bytes, info.kv_bytes_per_token, info.context_length or 0)
    if entry.purpose in POOLED:
        ctx = wanted_ctx(demand.n_ctx_train, None)
        demand = Demand(demand.model_bytes + ctx * demand.kv_bytes_per_token, 0, demand.n_ctx_train)
    return demand if cpu else demand.on_gpu(info.block_count or 0, n_gpu_layers)


def slots_from_memory(settings: Settings) -> int:
    """How many jobs a serving process runs at once when nobody said (MAX_CONCURRENT unset).

    The models it preloads are in memory together and share what there is; without any, the models of the store are
    loaded one after the other on demand, and the one with the most slots counts (embedding models, which would take
    any number, only when there are no others). Blocking: reads the store's headers
    and asks the device; raises ConfigError when that does not answer.
    """
    from worker.memory import free_bytes, on_cpu  # noqa: PLC0415  # psutil and NVML: only a serving process needs them
    from worker.store.catalogue import Catalogue  # noqa: PLC0415

    cpu = on_cpu(settings)
    served = [entry for entry in Catalogue(settings.models_dir, settings.models).entries() if entry.problem is None]
    demands = {entry.id: demand_of(entry, cpu=cpu, n_gpu_layers=settings.n_gpu_layers) for entry in served}
    preloaded = [demands[model_id] for model_id in settings.preload if model_id in demands]
    others = [demands[entry.id] for entry in served if entry.purpose not in POOLED]
    chosen = [together(preloaded)] if preloaded else others or list(demands.values())
    try:
        free = free_bytes(settings)
    except WorkerError as exc:
        raise ConfigError(f"MAX_CONCURRENT is not set and {exc.message}") from exc
    return most_slots(chosen, free, settings.context_length, cpu=cpu)


def _too_large(free: int, needed: int, *, cpu: bool) -> WorkerError:
    where = "this machine" if cpu else "the GPU"
    return WorkerError(
        f"the model needs {_mb(needed)}; {where} has {_mb(free)} free, of which a model may take "
        f"{_mb(usable(free, cpu=cpu))}; take a smaller quantisation or free memory",
        code="out_of_memory",
    )


def _mb(count: int) -> str:
    return f"{count // 1024**2} MB"
