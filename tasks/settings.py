"""Every setting: its name in the environment and in the file, its default, and what may stand in it.

A later source wins: built-in default < `<home>/config.yaml` < environment < arguments of `load_settings`. An empty
environment variable counts as not set, except where the empty text is itself a value (`MAX_CONCURRENT` and the
endpoints, where it means automatic).
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tasks import fleet_key_file, keep_alive, model_options, settings_errors, settings_file, settings_sources
from tasks import settings_values as values
from tasks.sealing import FleetKey

Endpoint = Annotated[str, BeforeValidator(values.endpoint)]
ApiKey = Annotated[SecretStr, BeforeValidator(values.api_key)] | None
Identifier = Annotated[str, BeforeValidator(values.identifier)]
Folder = Annotated[Path, BeforeValidator(values.folder)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
KeepAlive = Annotated[float, BeforeValidator(keep_alive.seconds)]
ModelTable = Annotated[dict[str, model_options.ModelOptions], BeforeValidator(model_options.read_table)]
MaybePort = Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(values.optional)]
MaybeCount = Annotated[Count | None, BeforeValidator(values.optional)]

_COUNT = "a whole number from 1"
_ENDPOINT = "a URL like http://127.0.0.1:11434, off, or nothing (found automatically)"
_API_KEY = "the key that the server at the configured endpoint asks for, or nothing"
_ID = "up to 100 letters, digits, `.`, `_` and `-`"


def default_home() -> Path:
    """Where Pendra keeps its files: `~/.pendra`, on Windows `%ProgramData%\\Pendra`."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "Pendra"
    return Path.home() / ".pendra"


def _setting(
    env: str, allowed: str, default: Any = None, *, file: bool = True, clears: bool = False, **field: Any
) -> Any:
    """`file`: may stand in config.yaml; `clears`: an empty environment variable is a value."""
    if "default_factory" not in field:
        field["default"] = default
    return Field(**field, json_schema_extra={"env": env, "allowed": allowed, "file": file, "clears": clears})


class Settings(BaseSettings):
    """All settings of a process, frozen. Make it with `load_settings`, which explains what is wrong."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, hide_input_in_errors=True
    )

    home: Folder = _setting("PENDRA_HOME", "a folder", file=False, default_factory=default_home)
    worker_id: Identifier = _setting("WORKER_ID", _ID)  # made and kept in the file at the first run
    worker_name: str = _setting(
        "WORKER_NAME", "1 to 200 characters", default_factory=socket.gethostname, min_length=1, max_length=200
    )
    app_server_ws_url: Annotated[str, BeforeValidator(values.ws_url)] = _setting(
        "APP_SERVER_WS_URL", "a URL like wss://api.pendra.ai", "wss://api.pendra.ai"
    )
    gpu_worker_private_key: Annotated[SecretStr, BeforeValidator(values.seed)] | None = _setting(
        "GPU_WORKER_PRIVATE_KEY", "the base64 Ed25519 seed that the console shows"
    )
    models: Annotated[tuple[str, ...] | None, BeforeValidator(values.model_ids)] = _setting(
        "MODELS", 'a JSON array of model ids or {"id": …} objects; leave it out to serve all'
    )
    max_concurrent: Annotated[int | None, BeforeValidator(values.concurrency)] = _setting(
        "MAX_CONCURRENT", "a whole number from 1 to 64, or nothing (slots from free memory)", clears=True
    )
    models_dir: Folder = _setting(
        "PENDRA_MODELS_DIR", "a folder", default_factory=lambda data: data.get("home", default_home()) / "models"
    )
    ollama_endpoint: Endpoint = _setting("OLLAMA_ENDPOINT", _ENDPOINT, "", clears=True)
    vllm_endpoint: Endpoint = _setting("VLLM_ENDPOINT", _ENDPOINT, "", clears=True)
    lmstudio_endpoint: Endpoint = _setting("LMSTUDIO_ENDPOINT", _ENDPOINT, "", clears=True)
    speaches_endpoint: Endpoint = _setting("SPEACHES_ENDPOINT", _ENDPOINT, "", clears=True)

    ollama_api_key: ApiKey = _setting("OLLAMA_API_KEY", _API_KEY)
    vllm_api_key: ApiKey = _setting("VLLM_API_KEY", _API_KEY)
    lmstudio_api_key: ApiKey = _setting("LMSTUDIO_API_KEY", _API_KEY)
    speaches_api_key: ApiKey = _setting("SPEACHES_API_KEY", _API_KEY)
    backend_order: Annotated[tuple[str, ...], BeforeValidator(values.backend_order)] = _setting(
        "PENDRA_BACKEND_ORDER",
        f"backends joined by commas, of {', '.join(values.BACKENDS)}; the preferred first",
        values.BACKENDS,
    )
    backend_limit: Count = _setting("PENDRA_BACKEND_LIMIT", _COUNT, 16)

    redis_url: Annotated[str, BeforeValidator(values.redis_url)] = _setting(
        "PENDRA_REDIS_URL",
        "redis://host:port/db, rediss://host:port/db or unix:///path",
        "redis://127.0.0.1:6379/0",
        repr=False,
    )
    fleet_key: Annotated[SecretStr, BeforeValidator(values.fleet_key)] | None = _setting(
        "PENDRA_FLEET_KEY", "32 bytes in base64, as `pendra setup` makes them"
    )
    fleet_key_old: Annotated[SecretStr, BeforeValidator(values.fleet_key_list)] | None = _setting(
        "PENDRA_FLEET_KEY_OLD", "fleet keys that are still opened, joined by commas"
    )
    workload_key_file: Folder = _setting(
        "PENDRA_WORKLOAD_KEY_FILE",
        "a file, as `pendra keys rotate` makes it",
        default_factory=lambda data: data.get("home", default_home()) / "workload-key",
    )  # only workers read it; no setting holds the key itself
    preload: Annotated[tuple[str, ...], BeforeValidator(values.preload_ids)] = _setting(
        "PENDRA_PRELOAD", "model ids joined by commas, or a JSON array of them", ()
    )
    context_length: MaybeCount = _setting("PENDRA_CONTEXT_LENGTH", f"{_COUNT}, or nothing (the model's own)")
    threads: MaybeCount = _setting("PENDRA_THREADS", f"{_COUNT}, or nothing (from the CPUs)")
    n_gpu_layers: Annotated[int, Field(ge=-1)] = _setting(
        "PENDRA_N_GPU_LAYERS", "a whole number; -1 = all layers", -1
    )
    n_batch: MaybeCount = _setting("PENDRA_N_BATCH", f"{_COUNT}, or nothing (the engine's default)")
    keep_alive: KeepAlive = _setting("PENDRA_KEEP_ALIVE", keep_alive.ALLOWED, keep_alive.FOREVER)
    model_options: ModelTable = _setting(
        "PENDRA_MODEL_OPTIONS", "a JSON object of options for each model id, `*` for all", default_factory=dict
    )
    labels: Annotated[tuple[str, ...], BeforeValidator(values.labels)] = _setting(
        "PENDRA_LABELS", f"labels joined by commas, of {values.LABEL_WORDS}", ()
    )
    gpu_groups: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(values.gpu_groups)] = _setting(
        "PENDRA_GPU_GROUPS", "groups of GPUs for one process each, like 0+1,2+3 (numbers or UUIDs)", ()
    )
    device: Identifier = _setting("PENDRA_DEVICE", _ID, "cpu0", file=False)
    child_id: Annotated[str, Field(max_length=128)] = _setting(
        "PENDRA_CHILD_ID",
        "up to 128 characters",
        file=False,
        default_factory=lambda data: f"{data.get('worker_id')}-{data.get('device')}",
    )
    max_waiting: Count = _setting("PENDRA_MAX_WAITING", _COUNT, 1000)
    max_waiting_model: Count = _setting("PENDRA_MAX_WAITING_MODEL", _COUNT, 500)
    max_waiting_key: Count = _setting("PENDRA_MAX_WAITING_KEY", _COUNT, 250)
    max_wait_seconds: Seconds = _setting("PENDRA_MAX_WAIT_SECONDS", "seconds, 0 to 86400", 300.0)
    max_wait_batch_seconds: Seconds = _setting("PENDRA_MAX_WAIT_BATCH_SECONDS", "seconds, 0 to 86400", 3600.0)
    grace_seconds: Seconds = _setting("PENDRA_GRACE_SECONDS", "seconds, 0 to 86400", 10.0)
    refresh_seconds: Annotated[Seconds, Field(gt=0)] = _setting("PENDRA_REFRESH_SECONDS", "seconds, above 0", 15.0)
    download_limit: Annotated[int | None, BeforeValidator(values.rate)] = _setting(
        "PENDRA_DOWNLOAD_LIMIT", "bytes a second for all installs of this host, like 20MB, or nothing (no limit)"
    )
    private_sources: bool = _setting(
        "PENDRA_PRIVATE_SOURCES",
        "true or false: may tasks and catalogues name http://, file:/// and servers in private networks",
        False,  # noqa: FBT003  # a default
    )
    catalogue_url: Annotated[str, BeforeValidator(values.catalogue_url)] = _setting(
        "PENDRA_CATALOGUE_URL", "an http(s):// or file:/// URL of a catalogue, or nothing (the one we ship)", ""
    )
    metrics_port: MaybePort = _setting(
        "PENDRA_METRICS_PORT", "a port of this host for the bridge's /metrics (0 = any free one), or nothing (off)"
    )
    metrics_host: str = _setting(
        "PENDRA_METRICS_HOST", "an address of this host", "127.0.0.1", min_length=1, max_length=255
    )
    audit: Literal["required", "best-effort", "off"] = _setting(
        "PENDRA_AUDIT", "required (no line, no service), best-effort or off", "required"
    )
    audit_dir: Folder = _setting(
        "PENDRA_AUDIT_DIR", "a folder", default_factory=lambda data: data.get("home", default_home()) / "audit"
    )
    audit_retention_days: MaybeCount = _setting("PENDRA_AUDIT_RETENTION_DAYS", f"{_COUNT}, or nothing (keep all)")
    audit_checkpoints: Annotated[Folder | None, BeforeValidator(values.optional)] = _setting(
        "PENDRA_AUDIT_CHECKPOINTS", "a file for a second copy of the signed checkpoints, or nothing"
    )
    log_file: Annotated[Folder | None, BeforeValidator(values.optional)] = _setting(
        "PENDRA_LOG_FILE", "a file, or nothing (stderr)"
    )
    log_level: Annotated[str, BeforeValidator(values.log_level)] = _setting(
        "PENDRA_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", "INFO"
    )
    log_format: Literal["text", "json"] = _setting("PENDRA_LOG_FORMAT", "text or json", "text")

    @property
    def config_path(self) -> Path:
        return settings_file.path_in(self.home)

    @property
    def preloaded(self) -> tuple[str, ...]:
        """Models to load at the start: `preload`, and those whose options say so (or say not)."""
        said = {name: one.preload for name, one in self.model_options.items() if one.preload is not None}
        named = dict.fromkeys([*self.preload, *(name for name, wanted in said.items() if wanted)])
        return tuple(name for name in named if said.get(name, True))

    @property
    def fleet_key_path(self) -> Path:
        return fleet_key_file.path_in(self.home)

    def fleet_keys(self) -> tuple[FleetKey, ...]:
        """The live fleet keys, the one to seal with first. Reads `<home>/fleet-key` unless the setting has it.

        Raises ConfigError, saying how to make one, when there is none.
        """
        old = self.fleet_key_old.get_secret_value().split(",") if self.fleet_key_old else []
        return tuple(FleetKey.from_base64(key) for key in [*self._fleet_keys(), *old])

    def _fleet_keys(self) -> tuple[str, ...]:
        return (self.fleet_key.get_secret_value(),) if self.fleet_key else fleet_key_file.read(self.fleet_key_path)

    @classmethod
    def settings_customise_sources(  # the unused ones are pydantic's own, replaced by ours
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            settings_sources.Environment(settings_cls),
            settings_sources.ConfigFile(settings_cls, default_home),
            settings_sources.WorkerId(settings_cls, default_home),
        )


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process. `overrides` win over all sources; None means not given.

    Reads the environment and the file, and at the very first run writes a `worker_id` to the file. Raises one
    ConfigError that names every wrong key, its value (unless secret) and what is allowed. Blocking; any thread.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as exc:
        raise settings_errors.explained(exc, Settings, given) from None
