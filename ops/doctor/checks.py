"""Which checks there are, for these settings."""

from __future__ import annotations

from functools import partial

from ops.cli import version
from ops.doctor import dns, fleet, gpu, key, link, redis_server, servers, shadow, store, traces
from ops.doctor.examine import Look
from ops.doctor.verdict import Verdict, failed, skipped
from ops.node_state import read_state
from tasks.errors import ConfigError
from tasks.settings import Settings

SETTINGS = "settings"


def checks_of(settings: Settings) -> dict[str, Look]:
    """By name, in the order they are shown. A running `pendra up` says which Redis and API are its own."""
    state = read_state(settings.home)
    redis_url = state.redis_url if state else settings.redis_url
    api = settings.app_server_ws_url
    local = bool(state and state.api_url)
    if state and state.api_url:
        api = state.api_url.replace("http", "ws", 1)
    return {
        "key": partial(key.look, settings, local=local),
        "packages": shadow.look,
        **_way_to(api, needed=local or settings.gpu_worker_private_key is not None),
        "redis": partial(redis_server.look, redis_url),
        "fleet": partial(fleet.look, settings, redis_url, version()),
        "gpu": gpu.look,
        "models": partial(store.look, settings),
        "backends": partial(servers.look, settings),
        "traces": traces.look,
    }


def _way_to(api: str, *, needed: bool) -> dict[str, Look]:
    """A host without a key runs no bridge: its workers speak to Redis alone, and the API may be out of reach."""
    if needed:
        return {"dns": partial(dns.look, api), "api": partial(link.look, api)}
    return {"api": lambda: [skipped(link.LINK, f"{api} is not asked: only a host with a key needs it")]}


def without_settings(problem: ConfigError) -> tuple[list[Verdict], dict[str, Look]]:
    """What can be said when the settings cannot be used: each problem, and what needs no settings."""
    fix = "correct it (`pendra config` shows where each setting comes from)"
    return [failed(SETTINGS, line, fix) for line in problem.message.splitlines()], {
        "packages": shadow.look,
        "gpu": gpu.look,
    }
