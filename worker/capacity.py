"""How many requests a model serves at once and how long each may be, from the memory there is.

All of it is pure but `slots_from_memory`, which asks the store and the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasks.errors import ConfigError, WorkerError
from tasks.model_options import EVERY
from worker.estimate import beside_pooled, beside_weights
from worker.options import Options, options_of

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
"""For compute buffers where nothing better is known; on a GPU the least, because CUDA takes some for itself."""


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
    """What a model asks of the device that serves it. `n_ctx_train`: what it was trained for, 0 = not known.

    `reserve`: for what is neither weights nor KV cache. `slots`, `context_length`: wanted by those who configured it.
    """

    model_bytes: int
    kv_bytes_per_token: int
    n_ctx_train: int = 0
    reserve: int = RESERVE
    slots: int | None = None
    context_length: int | None = None

    def on_gpu(self, blocks: int, n_gpu_layers: int) -> Demand:
        """The part of it that goes to the GPU when only some layers do (-1 = all)."""
        if n_gpu_layers < 0 or not blocks or n_gpu_layers >= blocks:
            return self
        part = n_gpu_layers / blocks
        weights, kv = int(self.model_bytes * part), int(self.kv_bytes_per_token * part)
        return replace(self, model_bytes=weights, kv_bytes_per_token=kv)

    @property
    def ctx(self) -> int:
        """Context per slot when memory is plenty."""
        return wanted_ctx(self.n_ctx_train, self.context_length)

    def under(self, plan: Plan) -> int:
        """All the memory it takes under a plan."""
        return plan.bytes_with(self.model_bytes, self.kv_bytes_per_token) + self.reserve


def wanted_ctx(n_ctx_train: int, context_length: int | None) -> int:
    """Context per slot when memory is plenty. `n_ctx_train` 0 = not known."""
    want = context_length or DEFAULT_CTX
    return min(want, n_ctx_train) if n_ctx_train else want


def share(*, cpu: bool) -> float:
    """The part of free memory that is ours."""
    return SHARE_CPU if cpu else SHARE_GPU


def usable(free_bytes: int, *, cpu: bool, reserve: int = RESERVE) -> int:
    """What a model and its KV cache may take of the free memory."""
    return max(0, int(free_bytes * share(cpu=cpu)) - reserve)


def plan_for(demand: Demand, free_bytes: int, *, cpu: bool) -> Plan:
    """`plan_slots` for a model as it is configured."""
    return plan_slots(
        free_bytes,
        demand.model_bytes,
        demand.kv_bytes_per_token,
        demand.n_ctx_train,
        demand.slots,
        demand.context_length,
        cpu=cpu,
        reserve=demand.reserve,
    )


def plan_slots(
    free_bytes: int,
    model_bytes: int,
    kv_bytes_per_token: int,
    n_ctx_train: int,
    max_concurrent: int | None = None,
    context_length: int | None = None,
    *,
    cpu: bool,
    reserve: int = RESERVE,
) -> Plan:
    """Slots and context for one model on a device with `free_bytes` free.

    - Of the free memory we use a share (90 % on a GPU, 50 % on a CPU) less `reserve` for compute buffers; the weights
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
    room = usable(free_bytes, cpu=cpu, reserve=reserve) - model_bytes
    most = max(MIN_SLOTS, min(max_concurrent or (MAX_SLOTS_CPU if cpu else MAX_SLOTS), MAX_SLOTS))
    cells = room // kv_bytes_per_token if kv_bytes_per_token else most * want
    if room < 0 or cells < least:
        raise _too_large(free_bytes, model_bytes + least * kv_bytes_per_token, cpu=cpu, reserve=reserve)
    slots = max(MIN_SLOTS, min(most, cells // (least if max_concurrent else want)))
    return Plan(slots, min(want, cells // slots))


def most_slots(demands: Iterable[Demand], free_bytes: int, context_length: int | None, *, cpu: bool) -> int:
    """Slots of a process that may serve any of these models, one at a time: those of the model with the most."""
    found = []
    for demand in demands:
        try:
            wanted = replace(demand, context_length=demand.context_length or context_length)
            plan = plan_for(wanted, free_bytes, cpu=cpu)
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
        sum(row.reserve for row in rows),
        max((row.slots for row in rows if row.slots), default=None),
        max((row.context_length for row in rows if row.context_length), default=None),
    )


def demand_of(entry: Entry, options: Options) -> Demand:
    """What a model of the store asks for, with its adapters.

    An embedding model's requests share room for one input: a KV cache if it has one, else buffers of that order.
    """
    info, size = entry.info, entry.size_bytes + sum(one.path.stat().st_size for one in options.adapters)
    if info is None:
        return Demand(size, 0)
    kv = info.kv_bytes(options.kv_type.bytes_per_value, options.kv_type_v.bytes_per_value)
    demand = Demand(size, kv, info.context_length or 0, RESERVE, options.slots, options.context_length)
    if entry.purpose in POOLED:
        whole = demand.model_bytes + demand.ctx * info.kv_bytes_per_token
        reserve = max(RESERVE, beside_pooled(info, ctx=demand.ctx)) if options.cpu else RESERVE
        return replace(demand, model_bytes=whole, kv_bytes_per_token=0, reserve=reserve).on_gpu(
            info.block_count or 0, options.n_gpu_layers
        )
    most = options.slots or (MAX_SLOTS_CPU if options.cpu else MAX_SLOTS)
    buffers = beside_weights(info, options, ctx=demand.ctx, slots=most)
    demand = replace(demand, reserve=buffers if options.cpu else max(RESERVE, buffers))
    return demand if options.cpu else demand.on_gpu(info.block_count or 0, options.n_gpu_layers)


def fits(demand: Demand, whole_bytes: int | None, *, cpu: bool) -> bool:
    """Whether it could be served where there is so much memory in all; True where nobody knows."""
    if whole_bytes is None:
        return True
    try:
        plan_for(demand, whole_bytes, cpu=cpu)
    except WorkerError:
        return False
    return True


def slots_from_memory(settings: Settings) -> int:
    """How many jobs a serving process runs at once when nobody said (MAX_CONCURRENT unset).

    The models it preloads are in memory together and share what there is; without any, the models of the store are
    loaded one after the other on demand, and the one with the most slots counts (embedding models, which would take
    any number, only when there are no others). Blocking: reads the store's headers
    and asks the device; raises ConfigError when that does not answer.
    """
    from worker.memory import free_bytes  # noqa: PLC0415  # psutil and NVML: only a serving process needs them
    from worker.store.catalogue import Catalogue  # noqa: PLC0415

    whole = options_of(settings, EVERY)
    cpu = whole.cpu
    served = [entry for entry in Catalogue(settings.models_dir, settings.models).entries() if entry.problem is None]
    demands = {entry.id: demand_of(entry, options_of(settings, entry.id)) for entry in served}
    preloaded = [demands[model_id] for model_id in settings.preloaded if model_id in demands]
    others = [demands[entry.id] for entry in served if entry.purpose not in POOLED]
    chosen = [together(preloaded)] if preloaded else others or list(demands.values())
    try:
        free = free_bytes(whole)
    except WorkerError as exc:
        raise ConfigError(f"MAX_CONCURRENT is not set and {exc.message}") from exc
    return most_slots(chosen, free, settings.context_length, cpu=cpu)


def _too_large(free: int, needed: int, *, cpu: bool, reserve: int) -> WorkerError:
    where = "this machine" if cpu else "the GPU"
    return WorkerError(
        f"the model needs {_mb(needed)}; {where} has {_mb(free)} free, of which a model may take "
        f"{_mb(usable(free, cpu=cpu, reserve=reserve))}; take a smaller quantisation or free memory",
        code="out_of_memory",
    )


def _mb(count: int) -> str:
    return f"{count // 1024**2} MB"
