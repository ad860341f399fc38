"""The Lua scripts that make slots and claims atomic, with typed front ends.

A *credit* is one slot of one worker, held by one job id from `acquire` to `release`; the sum over a worker never
exceeds its slots while every bridge goes through `acquire`. A claim by another worker of the same model moves the
credit with it. Each front end is one round trip; async ones for the bridge, sync ones for workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from tasks import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis
    import redis.asyncio as aredis

_CREDITS = keys.credits_of("")


class Claim(StrEnum):
    """What became of a worker's claim. Everything but OK means: drop the message, somebody else decided."""

    OK = "ok"
    GONE = "gone"
    STALE = "stale"
    TAKEN = "taken"
    EXPIRED = "expired"


class Published(IntEnum):
    """What became of events of a private job. The last two mean: stop, it is not this attempt's turn."""

    NOW = 1
    BEFORE = 0
    FENCED = -1
    OUT_OF_ORDER = -2


@dataclass(frozen=True, slots=True)
class Guard:
    """What a batch of a private job's events must meet: it holds the sealed frames from `first` to before `after`."""

    job_id: str
    attempt: int
    reply_id: str
    first: int
    after: int


@dataclass(frozen=True, slots=True)
class Placement:
    """A job ready to go: `candidates` are (worker id, slots) in order of preference."""

    job_id: str
    attempt: int
    payload: bytes
    bridge_id: str
    deadline: float | None
    candidates: tuple[tuple[str, int], ...]


def lua(name: str) -> str:
    return resources.files("tasks").joinpath("lua", f"{name}.lua").read_text("utf-8")


class BridgeScripts:
    """For the bridge (asyncio). Raises redis.RedisError when Redis does not answer."""

    def __init__(self, client: aredis.Redis, bridge_id: str = "", token: str = "") -> None:
        """`token`: what the bridge's lease says while it is ours. When it says something else, another process owns
        the jobs, and nothing is acquired or released any more."""
        self._bridge_id, self._token = bridge_id, token
        self._acquire = client.register_script(lua("fence") + lua("acquire"))
        self._release = client.register_script(lua("fence") + lua("release"))
        self._note = client.register_script(lua("fence") + lua("note"))
        self._hold = client.register_script(lua("hold"))

    async def hold(self, bridge_id: str, token: str, seconds: float, *, known: int = 0) -> tuple[bool, int]:
        """Take or renew the bridge's lease; 0 seconds give it back. Returns whether it is ours, and its epoch.

        A free one is not taken when its epoch is below `known`: Redis has lost its data, and who held it comes first.
        """
        names = [keys.bridge_lease(bridge_id), keys.bridge_epoch(bridge_id)]
        reply = cast("Sequence[int]", await self._hold(keys=names, args=[token, int(seconds * 1000), known]))
        return bool(reply[0]), int(reply[1])

    async def acquire(self, job: Placement) -> str | None:
        """The worker whose slot the job now holds, or None when every candidate is full or gone."""
        names = [keys.job(job.job_id), keys.bridge_lease(job.bridge_id)]
        deadline_ms = int(job.deadline * 1000) if job.deadline else 0
        args: list[Any] = [job.job_id, job.attempt, job.payload, job.bridge_id, deadline_ms, keys.JOB_TTL_S]
        for worker_id, slots in job.candidates:
            names += [keys.credits_of(worker_id), keys.worker_lease(worker_id)]
            args += [worker_id, slots]
        args += [_CREDITS, self._token]
        taken = cast("bytes | None", await self._acquire(keys=names, args=args))
        return taken.decode() or None if taken else None

    async def note(self, job_id: str, sealed: bytes = b"") -> None:
        """Write an open job down for a successor; without an entry, strike it off."""
        names = [keys.open_jobs(self._bridge_id), keys.bridge_lease(self._bridge_id)]
        await self._note(keys=names, args=[job_id, sealed, keys.JOB_TTL_S, self._token])

    async def release(self, job_id: str, attempt: int) -> bool:
        """Drop a dispatched job: its slot is free, and a worker that pops its message finds nothing."""
        names = [keys.job(job_id), keys.bridge_lease(self._bridge_id)]
        return bool(await self._release(keys=names, args=[job_id, attempt, _CREDITS, "", self._token]))


class WorkerScripts:
    """For worker threads (blocking). Raises redis.RedisError when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._claim = client.register_script(lua("claim"))
        self._release_text = lua("release")
        self._release = client.register_script(self._release_text)
        self._publish_text = lua("publish")

    def publish(
        self,
        pipe: redis.client.Pipeline,
        guard: Guard,
        bridge_id: str,
        data: bytes,
        pieces: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Queue on `pipe`; the result is a `Published`. What was refused is nowhere in Redis.

        `pieces` of a large reply are laid down with it (`tasks.blobs`).
        """
        names = [keys.job(guard.job_id), keys.private_reply(guard.reply_id), keys.replay(bridge_id)]
        names += [keys.events(bridge_id), keys.reply(guard.job_id)]
        args: list[Any] = [guard.job_id, guard.attempt, guard.first, guard.after]
        args += [keys.PRIVATE_TTL_S, keys.REPLAY_MAXLEN, data, keys.REPLAY_TTL_S]
        for field, piece in pieces:
            args += [field, piece]
        pipe.eval(self._publish_text, len(names), *names, *args)

    def claim(self, job_id: str, attempt: int, worker_id: str) -> tuple[Claim, bytes]:
        """(OK, sealed payload), or (why not, b"")."""
        names = [keys.job(job_id), keys.credits_of(worker_id)]
        reply = cast("Sequence[bytes]", self._claim(keys=names, args=[job_id, attempt, worker_id, _CREDITS]))
        return Claim(reply[0].decode()), reply[1] if len(reply) > 1 else b""

    def release(
        self, job_id: str, attempt: int, pipe: redis.client.Pipeline | None = None, *, worker_id: str = ""
    ) -> None:
        """Queue on `pipe`, so that the slot frees in the same round trip as the terminal event, or run now.

        `worker_id`: the caller, whose credit is also taken back when Redis has lost the job.
        """
        name = keys.job(job_id)
        args: list[Any] = [job_id, attempt, _CREDITS, worker_id]
        if pipe is None:
            self._release(keys=[name], args=args)
        else:
            # EVAL, not EVALSHA: redis-py would first ask for the script's presence in a round trip of its own
            pipe.eval(self._release_text, 1, name, *args)
