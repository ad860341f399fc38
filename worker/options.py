"""How one model is served in this process: settings, options and sidecar, merged. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.keep_alive import FOREVER
from tasks.model_options import FlashAttention, KvType, LoraRef, ModelOptions, merged, of_model
from tasks.settings import Settings
from worker.engine.config import Adapter


@dataclass(frozen=True, slots=True)
class Options:
    """`cpu`: the model lives in main memory. None = chosen from memory, the CPUs, or by the engine.

    `keep_alive`: seconds an idle model stays, FOREVER = until its room is needed. `lora` as named; `adapters` once
    the store was asked where they are.
    """

    cpu: bool = True
    n_gpu_layers: int = -1
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None
    flash_attn: bool | None = None
    kv_type: KvType = KvType.F16
    kv_type_v: KvType = KvType.F16
    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None
    n_batch: int | None = None
    keep_alive: float = FOREVER
    lora: tuple[LoraRef, ...] = ()
    adapters: tuple[Adapter, ...] = ()


def options_of(settings: Settings, model_id: str, sidecar: tuple[LoraRef, ...] = ()) -> Options:
    """Process settings < the sidecar's adapters < `*` < the model's own options."""
    said = merged(_of_process(settings), ModelOptions(lora=sidecar), of_model(settings.model_options, model_id))
    layers = -1 if said.n_gpu_layers is None else said.n_gpu_layers
    cpu = layers == 0 or not settings.device.startswith("gpu")
    return Options(
        cpu=cpu,
        n_gpu_layers=0 if cpu else layers,
        tensor_split=() if cpu else said.tensor_split or (),
        main_gpu=None if cpu else said.main_gpu,
        flash_attn=_FLASH[said.flash_attn],
        kv_type=said.cache_type_k or KvType.F16,
        kv_type_v=said.cache_type_v or KvType.F16,
        context_length=said.context_length,
        slots=said.slots,
        threads=said.threads,
        n_batch=said.n_batch,
        keep_alive=FOREVER if said.keep_alive is None else said.keep_alive,
        lora=said.lora or (),
    )


def _of_process(settings: Settings) -> ModelOptions:
    return ModelOptions(
        n_gpu_layers=settings.n_gpu_layers,
        context_length=settings.context_length,
        slots=settings.max_concurrent,
        threads=settings.threads,
        n_batch=settings.n_batch,
        keep_alive=settings.keep_alive,
    )


_FLASH = {None: None, FlashAttention.AUTO: None, FlashAttention.ON: True, FlashAttention.OFF: False}
