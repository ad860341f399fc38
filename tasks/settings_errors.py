"""A validation failure of settings, in words: which key, where it came from, its value, what is allowed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from tasks.errors import ConfigError
from tasks.settings_sources import BACKEND_KEYS, extra, nearest

SECRETS = frozenset({"gpu_worker_private_key", "fleet_key", "fleet_key_old", *BACKEND_KEYS})
_LONGEST = 80
_FOLLOWS = "default_factory_not_called"  # pydantic, of a default made from a setting that is wrong itself


def explained(exc: ValidationError, settings: type[BaseSettings], given: Mapping[str, Any]) -> ConfigError:
    """One error for all that is wrong. `given` are the arguments, which win over the other sources."""
    first: dict[str, ErrorDetails] = {}
    for error in exc.errors(include_url=False):
        if error["loc"] and error["type"] != _FOLLOWS:
            first.setdefault(str(error["loc"][0]), error)
    lines = [_problem(name, error, settings, given) for name, error in first.items()]
    return ConfigError("\n".join(lines), param=next(iter(first), None))


def describe(name: str, value: Any, reason: str, allowed: str, env: str, source: str) -> str:
    because = f" ({reason})" if reason else ""
    return f"{env} ({source}) is {shown(name, value)}{because}; allowed: {allowed}"


def shown(name: str, value: Any) -> str:
    """A value as it may be shown to the person who set it: never a secret, never a password in a URL."""
    if name in SECRETS:
        return "set (not shown)"
    text = value if isinstance(value, str) else repr(value)
    if "@" in text and (host := urlsplit(text).netloc.rpartition("@")[2]):
        text = text.replace(urlsplit(text).netloc, f"***@{host}")
    return f'"{text[:_LONGEST]}{"…" if len(text) > _LONGEST else ""}"'


def reason_of(error: ErrorDetails) -> str:
    """Why, in our validators' own words (pydantic's may quote the value)."""
    return str(error.get("ctx", {}).get("error", "")) if error["type"] == "value_error" else ""


def _problem(name: str, error: ErrorDetails, settings: type[BaseSettings], given: Mapping[str, Any]) -> str:
    field = settings.model_fields.get(name)
    if field is None:
        meant = nearest(name, settings.model_fields)
        return f"there is no setting {name}" + (f"; did you mean {meant}?" if meant else "")
    env = extra(field)["env"]
    if name in given:
        source = "given"
    elif os.environ.get(env, "").strip():
        source = "from the environment"
    elif os.environ.get(f"{env}_FILE", "").strip():
        source = f"from the file that {env}_FILE names"
    else:
        source = f"{name} in config.yaml"
    return describe(name, error["input"], reason_of(error), extra(field)["allowed"], env, source)
