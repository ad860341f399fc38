"""Where settings come from: the environment, `config.yaml`, and for the worker id a file it is kept in.

Field names, environment names and file keys are tied together by the fields of `tasks.settings.Settings`: the file
key is the field's name, the environment's name stands in the field's extra.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from tasks import settings_file
from tasks.errors import ConfigError
from tasks.logs import event
from tasks.settings_values import folder

_LOG = logging.getLogger("pendra.settings")
WORKER_ID = "worker_id"
BACKEND_KEYS = ("ollama_api_key", "vllm_api_key", "lmstudio_api_key", "speaches_api_key")
IN_FILES = frozenset({"gpu_worker_private_key", "fleet_key", "fleet_key_old", "redis_url", *BACKEND_KEYS})
"""Settings that hold secrets: `<NAME>_FILE` may name a file with the value, as container secrets have it."""


def extra(field: FieldInfo) -> dict[str, Any]:
    """A field's extra: `env`, `allowed`, `file`, `clears`."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, whatever the case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


class _Source(PydanticBaseSettingsSource):
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError(f"{field_name}: this source is read as a whole, {field!r}")


class Environment(_Source):
    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value = os.environ.get(extra(field)["env"])
            if name in IN_FILES and not (value or "").strip():
                value = from_file(f"{extra(field)['env']}_FILE")
            if value is not None and (value.strip() or extra(field)["clears"]):
                found[name] = value
        return found


def from_file(env: str) -> str | None:
    """What the file holds that the environment variable `env` names, None when it names none. Raises ConfigError."""
    path = os.environ.get(env, "").strip()
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise ConfigError(f"{env} names {path}, which cannot be read: {why}") from None


class _InHome(_Source):
    """A source under the home that the sources before it settled."""

    def __init__(self, settings_cls: type[BaseSettings], default_home: Callable[[], Path]) -> None:
        super().__init__(settings_cls)
        self._default_home = default_home

    def _config(self) -> Path:
        given = self.current_state.get("home")
        return settings_file.path_in(folder(given) if given else self._default_home())


class ConfigFile(_InHome):
    """What `config.yaml` says. Warns about keys nobody knows and about a file that others can read."""

    def __call__(self) -> dict[str, Any]:
        path = self._config()
        found = settings_file.read(path)
        known = {name for name, field in self.settings_cls.model_fields.items() if extra(field)["file"]}
        if settings_file.is_open_to_others(path):
            _warn("settings.file_mode", str(path), f"others can read it, it may hold a key: chmod 600 {path}")
        for name in found.keys() - known:
            meant = nearest(name, known)
            _warn("settings.unknown_setting", str(path), f"{name} is ignored" + (f"; {meant}?" if meant else ""))
        return {name: value for name, value in found.items() if name in known and value is not None}


class WorkerId(_InHome):
    """Makes `wrk-<8 hex>` and keeps it in `config.yaml` when no source before this one has an id."""

    def __call__(self) -> dict[str, Any]:
        if self.current_state.get(WORKER_ID) is not None:
            return {}
        return {WORKER_ID: settings_file.ensure(self._config(), WORKER_ID, new_worker_id)}


def new_worker_id() -> str:
    return f"wrk-{secrets.token_hex(4)}"


@functools.cache  # settings are loaded more than once in a process; say it once
def _warn(action: str, path: str, hint: str) -> None:
    event(_LOG, logging.WARNING, action, path=path, hint=hint)
