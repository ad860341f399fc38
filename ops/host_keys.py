"""The keys that a fleet's hosts share: the workload key (private inference) and the fleet key.

What they are known by, and the steps of a rotation. No secret leaves this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tasks import fleet_key_file
from tasks.errors import ConfigError, NotFoundError
from tasks.sealing import FleetKey
from tasks.settings import Settings
from worker.private import keys as workload

_WORKERS = "to every other worker host (workers read it again by themselves)"


class Which(StrEnum):
    WORKLOAD = "workload"
    FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class HostKey:
    """A live key: what it is known by, and what it is used for now."""

    which: Which
    id: str
    use: str


def live(settings: Settings) -> list[HostKey]:
    """All of this host, workload keys first. Raises ConfigError for a bad file."""
    workload_uses = ("clients seal to it", "still opened")
    fleet_uses = ("seals", "opens only")
    kids = [key.kid for key in workload.load(settings.workload_key_file)]
    return [
        *(HostKey(Which.WORKLOAD, kid, use) for kid, use in zip(kids, workload_uses, strict=False)),
        *(HostKey(Which.FLEET, key_id, use) for key_id, use in zip(_fleet_ids(settings), fleet_uses, strict=False)),
    ]


def fingerprints(settings: Settings) -> list[str]:
    """The kids that clients may pin. Raises NotFoundError when this host has no workload key."""
    kids = [key.kid for key in workload.load(settings.workload_key_file)]
    if not kids:
        raise NotFoundError(
            f"there is no workload key: {settings.workload_key_file} does not exist; `pendra up` and `pendra setup` "
            "make one, as does `pendra keys rotate`; or copy that file from another host of the fleet",
            code="no_private_inference_key",
        )
    return kids


def rotate(settings: Settings, which: Which) -> str:
    """Take the next step; returns what to do after it. Raises ConfigError, NotFoundError."""
    if which is Which.WORKLOAD and workload.ensure(settings.workload_key_file):
        return (
            f"made the fleet's first key {fingerprints(settings)[0]}.\nCopy {settings.workload_key_file} {_WORKERS}"
        )
    if which is Which.WORKLOAD:
        new, old = workload.rotate(settings.workload_key_file)
        return (
            f"new key {new.kid}; {old.kid} is still opened.\nCopy {settings.workload_key_file} {_WORKERS}, give "
            "pinned clients the new fingerprint, and end with `pendra keys retire workload` when no client seals to "
            "the old one any more"
        )
    before = fleet_key_file.read(_fleet_file(settings))
    seals, opens = (FleetKey.from_base64(line).id.hex() for line in fleet_key_file.rotate(_fleet_file(settings)))
    copy = f"Copy {settings.fleet_key_path} to every other host, restart their processes one after the other, and"
    if len(before) == 1:
        return f"step 1 of 2: {opens} is new and only opened; {seals} still seals.\n{copy} run this again"
    return f"step 2 of 2: {seals} seals now; {opens} is only opened.\n{copy} end with `pendra keys retire fleet`"


def retire(settings: Settings, which: Which) -> list[str]:
    """End a rotation; returns what the keys that went were known by. Raises ConfigError."""
    if which is Which.WORKLOAD:
        return [key.kid for key in workload.retire(settings.workload_key_file)]
    return [FleetKey.from_base64(line).id.hex() for line in fleet_key_file.retire(_fleet_file(settings))]


def _fleet_ids(settings: Settings) -> list[str]:
    if settings.fleet_key is None and not settings.fleet_key_path.exists():
        return []
    return [key.id.hex() for key in settings.fleet_keys()]


def _fleet_file(settings: Settings) -> Path:
    if settings.fleet_key is not None:
        raise ConfigError(
            "the fleet key is set by PENDRA_FLEET_KEY, so its file is not used; rotate it there: the new key in "
            "PENDRA_FLEET_KEY_OLD first, then swap the two, then leave PENDRA_FLEET_KEY_OLD empty"
        )
    return settings.fleet_key_path
