"""How a model shall be served, as people write it: for all models (`*`), for one, in a request. Pure.

The names are llama-server's where it has one. A later layer wins, option by option: settings for the whole process <
`*` < the model's own < what a request says (`keep_alive` only).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tasks import keep_alive
from tasks.settings_values import from_json

EVERY = "*"
_SHOWN = 60


class KvType(StrEnum):
    """Storage of the KV cache. Quantised values need flash attention, which `auto` turns on by itself."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"

    @property
    def bytes_per_value(self) -> float:
        return _BYTES[self]

    @property
    def quantised(self) -> bool:
        return self not in (KvType.F32, KvType.F16, KvType.BF16)


_BYTES = {
    KvType.F32: 4.0,
    KvType.F16: 2.0,
    KvType.BF16: 2.0,
    KvType.Q8_0: 34 / 32,
    KvType.Q5_1: 24 / 32,
    KvType.Q5_0: 22 / 32,
    KvType.Q4_1: 20 / 32,
    KvType.Q4_0: 18 / 32,
}


class FlashAttention(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


class LoraRef(BaseModel):
    """An adapter: a GGUF inside the model store, named by its path from there."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    path: str = Field(min_length=1, max_length=500)
    scale: float = Field(default=1.0, ge=-100, le=100, allow_inf_nan=False)


def _flash(value: Any) -> Any:
    """YAML reads a bare `on` or `off` as a boolean."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _loras(value: Any) -> Any:
    """A path alone means scale 1."""
    rows = [value] if isinstance(value, (str, Mapping)) else value
    return [{"path": row} if isinstance(row, str) else row for row in rows] if isinstance(rows, list) else rows


def _option(allowed: str, **limits: Any) -> Any:
    return Field(default=None, json_schema_extra={"allowed": allowed}, **limits)


_COUNT = "a whole number from 1"
_TYPES = ", ".join(KvType)
_KeepAlive = Annotated[float | None, BeforeValidator(keep_alive.optional)]
_Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelOptions(BaseModel):
    """What one layer says. None = nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    n_gpu_layers: int | None = _option("a whole number from -1; -1 = all layers, 0 = none", ge=-1, strict=True)
    tensor_split: tuple[_Share, ...] | None = _option(
        "a list of 1 to 16 numbers from 0, how much of the model each GPU takes", min_length=1, max_length=16
    )
    main_gpu: int | None = _option("a GPU's number from 0, which takes the whole model", ge=0, le=15, strict=True)
    flash_attn: Annotated[FlashAttention | None, BeforeValidator(_flash)] = _option("auto, on or off")
    cache_type_k: KvType | None = _option(_TYPES)
    cache_type_v: KvType | None = _option(_TYPES)
    context_length: int | None = _option(_COUNT, ge=1, strict=True)
    slots: int | None = _option("a whole number from 1 to 64", ge=1, le=64, strict=True)
    threads: int | None = _option(_COUNT, ge=1, le=1024, strict=True)
    n_batch: int | None = _option(_COUNT, ge=1, strict=True)
    keep_alive: _KeepAlive = _option(keep_alive.ALLOWED)
    preload: bool | None = _option("true or false", strict=True)
    lora: Annotated[tuple[LoraRef, ...] | None, BeforeValidator(_loras)] = _option(
        "a list of paths inside the model store, or of {path, scale} with a scale from -100 to 100", max_length=16
    )


Table = Mapping[str, ModelOptions]


def merged(*layers: ModelOptions) -> ModelOptions:
    """Option by option, the last layer that says something."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= {name: value for name in ModelOptions.model_fields if (value := getattr(layer, name)) is not None}
    return ModelOptions.model_construct(**said)


def of_model(table: Table, model_id: str) -> ModelOptions:
    """What a table says of a model: its own options over those of `*`."""
    nothing = ModelOptions()
    return merged(table.get(EVERY, nothing), table.get(model_id, nothing))


def read_table(value: Any) -> dict[str, ModelOptions]:
    """`{model id: options}` from JSON text or a mapping; nothing means none.

    Raises ValueError, which names model, option, value and what is allowed.
    """
    if isinstance(value, str):
        value = from_json(value) if value.strip() else {}
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("it is not an object with a model id for each key")  # noqa: TRY004  # pydantic's way
    table = {str(name): _options(str(name), row) for name, row in value.items()}
    if EVERY in table and table[EVERY].preload is not None:
        raise ValueError(f"{EVERY}.preload cannot be set for all models; allowed: on the models to preload")
    for name in table:
        _check_together(name, of_model(table, name))
    return table


def as_plain(table: Table) -> dict[str, Any]:
    """As JSON and YAML know it; what is not said is left out."""
    return {name: row.model_dump(mode="json", exclude_none=True) for name, row in table.items()}


def _options(name: str, row: Any) -> ModelOptions:
    if isinstance(row, ModelOptions):
        return row
    if row is not None and not isinstance(row, Mapping):
        raise ValueError(f"{name} is {_shown(row)}; allowed: an object of options")
    given = {str(key): value for key, value in (row or {}).items()}
    try:
        return ModelOptions.model_validate(given)
    except ValidationError as exc:
        raise ValueError(_explained(name, given, exc)) from None


def _explained(name: str, given: Mapping[str, Any], exc: ValidationError) -> str:
    option = str(exc.errors(include_url=False, include_input=False)[0]["loc"][0])
    field = ModelOptions.model_fields.get(option)
    if field is None:
        return f"{name}.{option} is no option; allowed: {', '.join(ModelOptions.model_fields)}"
    extra = field.json_schema_extra
    allowed = extra["allowed"] if isinstance(extra, dict) else ""
    return f"{name}.{option} is {_shown(given[option])}; allowed: {allowed}"


def _check_together(name: str, options: ModelOptions) -> None:
    """Options that are fine alone and not together."""
    if options.main_gpu is not None and options.tensor_split is not None:
        raise ValueError(f"{name} has both main_gpu (one GPU takes all) and tensor_split; allowed: one of them")
    if options.tensor_split is not None and not any(options.tensor_split):
        raise ValueError(f"{name}.tensor_split is all zeros; allowed: at least one number above 0")
    if options.preload and options.keep_alive == 0:
        raise ValueError(f"{name} has preload and keep_alive 0 (unload at once); allowed: one of them")
    values = options.cache_type_v
    if options.flash_attn is FlashAttention.OFF and values is not None and values.quantised:
        raise ValueError(
            f"{name}.cache_type_v is {values.value} with flash_attn off; allowed: f32, f16, bf16, or flash_attn on"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
