"""Settings as people name them: found by either name, checked alone, listed with where each value comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, create_model

from tasks import settings_file
from tasks.errors import ConfigError
from tasks.model_options import as_plain
from tasks.settings import Settings, default_home
from tasks.settings_errors import SECRETS, explained, shown
from tasks.settings_sources import extra, nearest
from tasks.settings_values import folder

MASK = "********"
Plain = str | int | float | bool | list[str] | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it is now: a secret's `value` is a mask; `source` is default, file or environment."""

    name: str
    env: str
    value: Plain
    source: str

    @property
    def text(self) -> str:
        if self.value is None:
            return ""
        if isinstance(self.value, dict):
            return json.dumps(self.value)
        return ", ".join(self.value) if isinstance(self.value, list) else str(self.value)


def current_home() -> Path:
    """The home that `load_settings()` would use, known even when the settings are broken."""
    given = os.environ.get("PENDRA_HOME", "")
    return folder(given) if given.strip() else default_home()


def named(key: str) -> str:
    """The field that `key` means: the environment's name or the file's, any case. Raises ConfigError."""
    by_name = {alias: name for name, field in Settings.model_fields.items() for alias in (name, extra(field)["env"])}
    low = {alias.lower(): name for alias, name in by_name.items()}
    if key.lower() in low:
        return low[key.lower()]
    meant = nearest(key, by_name)
    hint = f"did you mean {meant}?" if meant else "`pendra config list` shows all"
    raise ConfigError(f"there is no setting {key}; {hint}", param=key)


def env_of(name: str) -> str:
    return str(extra(Settings.model_fields[name])["env"])


def checked(given: Mapping[str, Any]) -> dict[str, Plain]:
    """Field values as they go to the file: validated like at loading and normalised. Raises one ConfigError."""
    fields: dict[str, Any] = {
        name: (Settings.model_fields[name].annotation, Settings.model_fields[name]) for name in given
    }
    config = ConfigDict(coerce_numbers_to_str=True, hide_input_in_errors=True)
    try:
        model: BaseModel = create_model("Checked", __config__=config, **fields)(**given)
    except ValidationError as exc:
        raise explained(exc, Settings, given) from None
    return {name: plain(getattr(model, name)) for name in given}


def set_value(key: str, value: Any) -> Row:
    """Write one setting to the file; what it is now. Raises ConfigError for a bad key or value."""
    name = named(key)
    if not extra(Settings.model_fields[name])["file"]:
        raise ConfigError(f"{name} cannot stand in the file; set {env_of(name)} in the environment", param=name)
    change = checked({name: value})
    settings_file.change(settings_file.path_in(current_home()), change)
    return Row(name, env_of(name), _masked(name, change[name]), "file")


def unset(key: str) -> str:
    """Remove one setting from the file; the name of the field."""
    name = named(key)
    settings_file.change(settings_file.path_in(current_home()), {name: None})
    return name


def rows(settings: Settings) -> list[Row]:
    """Every setting with its value (secrets masked) and source."""
    in_file = settings_file.read(settings.config_path)
    return [
        Row(name, env_of(name), _masked(name, plain(getattr(settings, name))), _source(name, in_file))
        for name in Settings.model_fields
    ]


def plain(value: Any) -> Plain:
    """A setting's value as YAML and JSON know it. Secrets come out in the clear."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return as_plain(value)
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _masked(name: str, value: Plain) -> Plain:
    if name in SECRETS:
        return MASK if value else None
    return shown(name, value).strip('"') if name == "redis_url" else value


def _source(name: str, in_file: Mapping[str, Any]) -> str:
    value = os.environ.get(env_of(name))
    if value is not None and (value.strip() or extra(Settings.model_fields[name])["clears"]):
        return "environment"
    return "file" if in_file.get(name) is not None else "default"
