"""Every Redis key, channel and queue, in one place.

| name | type | TTL | written by | read by |
|---|---|---|---|---|
| `pendra:job:<job>` | hash: payload (sealed Job), attempt, bridge, deadline, worker, credit, cancelled | JOB_TTL_S | bridge (dispatch), worker (claim) | worker, bridge |
| `pendra:sealed:<reply>` | hash: job, next (seq of the next sealed frame) of a private reply | PRIVATE_TTL_S | worker (publish) | worker |
| `pendra:blobs:<job>` | hash: `<part>/<index>` → sealed piece of a large part of the request (`tasks.blobs`) | JOB_TTL_S | bridge | worker |
| `pendra:reply:<job>` | hash: `<part>/<index>` → sealed piece of a large reply | REPLAY_TTL_S | worker publisher | bridge |
| `pendra:credits:<worker>` | set of job ids holding one of the worker's slots | – (deleted with the lease) | bridge (acquire), worker (claim, finish) | bridge |
| `pendra:workers` | hash: worker id → WorkerInfo JSON | – (swept by the bridge) | worker heartbeat | bridge, cli |
| `pendra:worker:<worker>` | string: epoch | WORKER_LEASE_S | worker heartbeat | bridge, claim script |
| `pendra:fleet` | channel: WorkerInfo JSON, and `{"gone": id}` | – | worker heartbeat | bridge |
| `pendra:events:<bridge>` | channel: event batches (`tasks.events`) | – | worker publisher | bridge relay |
| `pendra:replay:<bridge>` | stream, field `b`: the same batches, MAXLEN ~ REPLAY_MAXLEN | REPLAY_TTL_S | worker publisher | bridge relay |
| `pendra:bridge:<bridge>` | string: token of the bridge process that owns the jobs | BRIDGE_LEASE_S | bridge | bridge |
| `pendra:epoch:<bridge>` | number: how often that token has changed | – | bridge | bridge |
| `pendra:open:<bridge>` | hash: job id → sealed `bridge.registry.Entry` of an open job | JOB_TTL_S | bridge | the bridge that succeeds it |
| `pendra:installs:<bridge>` | hash: request id → sealed `bridge.entries.InstallEntry` | INSTALL_TTL_S | bridge | the bridge that succeeds it |
| `pendra:stop:<task>` | string `keep` or `discard`: an install that must not begin (its agent may be away when it is cancelled) | INSTALL_TTL_S | bridge, cli | installer agent |
| `pendra:jobs:<bridge>` | string: `tasks.contract.Overview` JSON, for people | OVERVIEW_TTL_S | bridge | cli |
| `pendra:control:<worker>` | channel: `{"op": "cancel", "job_id", "attempt"}` … | – | bridge | worker |
| `pendra:answers:<request>` | list: `{"worker_id", "ok", "busy"}`, what workers answer to `unload` | ANSWERS_TTL_S | worker | installer agent |
| queue `model.<model>` | Celery queue (list) | – | bridge | workers that hold the model |
| queue `worker.<worker>` | Celery queue (list) | – | bridge | that worker |
| queue `install.<node>` | Celery queue (list) | – | anyone | the node's installer agent |
"""

from __future__ import annotations

PREFIX = "pendra:"

WORKER_LEASE_S = 3.0
BRIDGE_LEASE_S = 3.0
HEARTBEAT_S = 1.0
JOB_TTL_S = 3600
PRIVATE_TTL_S = 6 * 3600  # for so long, a sealed request that is sent a second time is refused
INSTALL_TTL_S = 24 * 3600
OVERVIEW_TTL_S = 5
REPLAY_TTL_S = 300
REPLAY_MAXLEN = 20_000
ANSWERS_TTL_S = 900

WORKERS = f"{PREFIX}workers"
FLEET = f"{PREFIX}fleet"


def job(job_id: str) -> str:
    return f"{PREFIX}job:{job_id}"


def private_reply(reply_id: str) -> str:
    return f"{PREFIX}sealed:{reply_id}"


def blobs(job_id: str) -> str:
    return f"{PREFIX}blobs:{job_id}"


def reply(job_id: str) -> str:
    return f"{PREFIX}reply:{job_id}"


def credits_of(worker_id: str) -> str:
    return f"{PREFIX}credits:{worker_id}"


def worker_lease(worker_id: str) -> str:
    return f"{PREFIX}worker:{worker_id}"


def events(bridge_id: str) -> str:
    return f"{PREFIX}events:{bridge_id}"


def replay(bridge_id: str) -> str:
    return f"{PREFIX}replay:{bridge_id}"


def bridge_lease(bridge_id: str) -> str:
    return f"{PREFIX}bridge:{bridge_id}"


def bridge_epoch(bridge_id: str) -> str:
    return f"{PREFIX}epoch:{bridge_id}"


def open_jobs(bridge_id: str) -> str:
    return f"{PREFIX}open:{bridge_id}"


def open_installs(bridge_id: str) -> str:
    return f"{PREFIX}installs:{bridge_id}"


def install_stop(task_id: str) -> str:
    return f"{PREFIX}stop:{task_id}"


def overview(bridge_id: str) -> str:
    return f"{PREFIX}jobs:{bridge_id}"


def control(worker_id: str) -> str:
    return f"{PREFIX}control:{worker_id}"


def answers(request_id: str) -> str:
    return f"{PREFIX}answers:{request_id}"


def model_queue(model: str) -> str:
    return f"model.{model}"


def worker_queue(worker_id: str) -> str:
    return f"worker.{worker_id}"


def install_queue(node: str) -> str:
    return f"install.{node}"
