"""This host against the rest of its fleet: the same fleet key, and versions that understand each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import redis
from pydantic import ValidationError

from ops.doctor.verdict import Verdict, failed, ok, skipped, warning
from ops.node_state import live_workers
from tasks import keys
from tasks.contract import Overview
from tasks.errors import ConfigError
from tasks.redis_client import connect
from tasks.settings import Settings

KEY, VERSIONS = "fleet key", "versions"


@dataclass(frozen=True, slots=True)
class Member:
    """A running bridge or worker. `keys`: ids of its fleet keys, its own first; () when it does not say."""

    name: str
    version: str
    keys: tuple[str, ...]


def look(settings: Settings, redis_url: str, version: str) -> list[Verdict]:
    """`version`: that of this installation."""
    try:
        ours = tuple(key.id.hex() for key in settings.fleet_keys())
    except ConfigError as exc:
        return [failed(KEY, exc.message, "run `pendra setup`, or copy the fleet's key here (`pendra join`)")]
    try:
        with contextlib.closing(connect(redis_url)) as client:
            members = tuple(_members(client))
    except (redis.RedisError, OSError):
        return [skipped(KEY, f"{ours[0]} is there; without Redis the fleet's is not known")]
    return [*judge_keys(ours, members), judge_versions(version, members)]


def _members(client: redis.Redis) -> Iterable[Member]:
    for info in live_workers(client).values():
        yield Member(info.worker_id, info.version, info.fleet_keys)
    for name in client.scan_iter(match=keys.overview("*"), count=500):
        text = client.get(name)
        with contextlib.suppress(ValidationError):
            if isinstance(text, bytes):
                overview = Overview.model_validate_json(text)
                yield Member(f"bridge {overview.bridge_id}", overview.version, overview.fleet_keys)


def judge_keys(ours: tuple[str, ...], members: tuple[Member, ...]) -> list[Verdict]:
    """Each must be able to open what the other seals with its first key."""
    told = [member for member in members if member.keys]
    strangers = [one.name for one in told if one.keys[0] not in ours or ours[0] not in one.keys]
    if strangers:
        found = f"this host's fleet key {ours[0]} is not that of {_some(strangers)}"
        return [
            failed(KEY, found, "give all hosts the same key (`pendra keys fingerprint` shows each; `pendra join`)")
        ]
    with_us = f", as all {len(told)} that run have" if told else "; nothing of the fleet runs to compare with"
    return [ok(KEY, f"{ours[0]}{with_us}")]


def judge_versions(ours: str, members: tuple[Member, ...]) -> Verdict:
    """One minor version apart is supported; a development tree (no number) is not compared."""
    if not members:
        return skipped(VERSIONS, f"{ours} here; nothing of the fleet runs")
    told = {member.version for member in members if member.version} | {ours}
    numbers = sorted(number for number in map(_minor, told) if number is not None)
    listed = ", ".join(sorted(told))
    fix = "finish the upgrade: one minor version between neighbours is the most that is supported"
    if numbers and (numbers[0][0] != numbers[-1][0] or numbers[-1][1] - numbers[0][1] > 1):
        return failed(VERSIONS, f"too far apart: {listed}", fix)
    return warning(VERSIONS, f"the fleet runs {listed}", fix) if len(told) > 1 else ok(VERSIONS, f"{ours} everywhere")


def _minor(version: str) -> tuple[int, int] | None:
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):  # noqa: PLR2004  # major and minor
        return None
    return int(parts[0]), int(parts[1])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004
