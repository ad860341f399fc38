"""Redis: there, new enough, quick, keeping nothing on disk and throwing nothing away."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

import redis

from ops.doctor.link import judge_clock
from ops.doctor.verdict import Verdict, failed, ok, warning
from ops.node_state import mask
from tasks.redis_client import connect
from tasks.redis_persistence import config, writing

CHECK = "redis"
_OLDEST = (6, 2)
_PINGS = 10
_SLOW_MS, _VERY_SLOW_MS = 5.0, 50.0
_ROOM = 0.9
_GB = 1024**3


@dataclass(frozen=True, slots=True)
class Facts:
    """`config` is empty where the server forbids asking. `latency_ms`: the quickest of some pings."""

    url: str
    failure: Exception | None = None
    server: str = ""
    version: tuple[int, ...] = ()
    role: str = "master"
    latency_ms: float = 0.0
    skew_s: float = 0.0
    used: int = 0
    config: dict[str, str] = field(default_factory=dict)


def look(url: str) -> list[Verdict]:
    try:
        with contextlib.closing(connect(url)) as client:
            return judge(_ask(client, mask(url)))
    except (redis.RedisError, OSError) as exc:
        return judge(Facts(mask(url), failure=exc))


def _ask(client: redis.Redis, url: str) -> Facts:
    latency = min(_ping_ms(client) for _ in range(_PINGS))  # the others waited for our own checks
    info = client.info()
    seconds, micros = client.time()
    name = "Valkey" if info.get("valkey_version") else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    return Facts(
        url=url,
        server=f"{name} {version}",
        version=tuple(int(part) for part in version.split(".")[:2] if part.isdigit()),
        role=str(info.get("role", "master")),
        latency_ms=latency,
        skew_s=time.time() - (seconds + micros / 1e6),
        used=int(info.get("used_memory", 0)),
        config=_config(client),
    )


def _ping_ms(client: redis.Redis) -> float:
    began = time.monotonic()
    client.ping()
    return 1000 * (time.monotonic() - began)


def _config(client: redis.Redis) -> dict[str, str]:
    try:
        return config(client, "save", "appendonly", "maxmemory", "maxmemory-policy")
    except redis.ResponseError:  # an ACL or a managed server forbids it
        return {}


def judge(facts: Facts) -> list[Verdict]:
    if facts.failure is not None:
        return [_unreachable(facts)]
    verdicts = [_server(facts), judge_clock(facts.skew_s, "Redis'"), *_memory(facts), *_latency(facts)]
    if found := writing(facts.config):
        fix = "CONFIG SET save '' appendonly no, and the same in its configuration: jobs should not outlive on a disk"
        verdicts.append(warning(CHECK, f"it writes to disk: {', '.join(found)}", fix))
    if not facts.config:
        fix = "look by hand: no persistence, maxmemory-policy noeviction"
        verdicts.append(warning(CHECK, "it does not tell its configuration", fix))
    return verdicts


def _unreachable(facts: Facts) -> Verdict:
    if isinstance(facts.failure, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return failed(CHECK, f"{facts.url} refuses the password", "correct PENDRA_REDIS_URL, or the server's ACL")
    if isinstance(facts.failure, redis.ResponseError):
        fix = "allow this user PING, INFO, TIME and all that docs/operations.md names"
        return failed(CHECK, f"{facts.url} refuses what we need to ask", fix)
    found = f"{facts.url} does not answer ({type(facts.failure).__name__})"
    return failed(CHECK, found, "start it, correct PENDRA_REDIS_URL, or open the way to its port")


def _server(facts: Facts) -> Verdict:
    if facts.role != "master":
        fix = "name the primary in PENDRA_REDIS_URL; Sentinel and replicas are not supported"
        return failed(CHECK, f"{facts.url} is a replica", fix)
    if facts.server.startswith("Redis") and facts.version < _OLDEST:
        return failed(CHECK, f"{facts.server} is too old", "Redis 6.2 or later, or Valkey; 7 and later are tested")
    return ok(CHECK, f"{facts.server} at {facts.url} answers in {facts.latency_ms:.1f} ms")


def _memory(facts: Facts) -> list[Verdict]:
    policy, most = facts.config.get("maxmemory-policy", "noeviction"), int(facts.config.get("maxmemory", "0") or 0)
    out = []
    if policy != "noeviction":
        found = f"maxmemory-policy is {policy}: it throws jobs and leases away when memory is short"
        out.append(failed(CHECK, found, "CONFIG SET maxmemory-policy noeviction, and the same in its configuration"))
    if most and facts.used > _ROOM * most:
        found = f"{facts.used / _GB:.2f} of {most / _GB:.2f} GB are in use"
        out.append(failed(CHECK, found, "raise maxmemory; 1 GB is plenty for a large fleet"))
    return out


def _latency(facts: Facts) -> list[Verdict]:
    if facts.latency_ms < _SLOW_MS:
        return []
    found = f"a round trip takes {facts.latency_ms:.1f} ms, and every token makes one"
    fix = "put Redis near the workers and the bridge: the same site, better the same rack"
    return [(failed if facts.latency_ms >= _VERY_SLOW_MS else warning)(CHECK, found, fix)]
