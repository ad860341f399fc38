"""Whether Redis writes its data to disk, where it would outlive the jobs: said once by every process that starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from typing import Any, cast

import redis

from tasks.logs import event
from tasks.redis_client import connect

_LOG = logging.getLogger("pendra.redis")


def writing(config: Mapping[str, str]) -> tuple[str, ...]:
    """The settings (as CONFIG GET tells them) that make Redis write to disk. Pure."""
    found = [f'save "{config["save"]}"'] if config.get("save") else []
    return (*found, "appendonly yes") if config.get("appendonly") == "yes" else tuple(found)


def warn(url: str) -> tuple[str, ...]:
    """Log a warning that names the settings, and return them. Blocks; any thread.

    A Redis that is away or does not tell (managed ones forbid CONFIG) is passed over.
    """
    try:
        with closing(connect(url)) as client:
            found = writing(config(client, "save", "appendonly"))
    except (redis.RedisError, OSError) as exc:
        event(_LOG, logging.DEBUG, "redis.persistence_unknown", error=type(exc).__name__)
        return ()
    if found:
        hint = "payloads are sealed, but should not outlive their jobs on a disk: CONFIG SET save '' appendonly no"
        event(_LOG, logging.WARNING, "redis.persists", settings=", ".join(found), hint=hint)
    return found


def config(client: redis.Redis, *names: str) -> dict[str, str]:
    """What CONFIG GET tells of these settings. Blocks. Raises redis.RedisError."""
    told = cast("dict[Any, Any]", client.config_get(*names))
    return {_text(name): _text(value) for name, value in told.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
