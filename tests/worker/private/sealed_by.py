"""What a client does, with the official SDK's own cryptography: the other side of everything in `worker.private`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pendra import _private_inference as client

from tasks.contract import Job, JobKind
from worker.private.keys import Keyring, WorkloadKey

MODEL = "smol:1b"


def keyring(tmp_path: Path, *keys: WorkloadKey) -> Keyring:
    path = tmp_path / "workload-key"
    path.write_text("".join(f"{key.to_base64()}\n" for key in keys))
    path.chmod(0o600)
    return Keyring(path)


def seal(
    body: dict[str, Any] | bytes,
    *keys: WorkloadKey,
    stream: bool = False,
    task_type: str = "chat",
    binary: bytes | None = None,
) -> tuple[dict[str, Any], client.ResponseDecryptor]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    envelope, response_keys = client.seal_request(
        [key.public for key in keys], raw, model=MODEL, stream=stream, task_type=task_type, binary=binary
    )
    return envelope, client.ResponseDecryptor(response_keys)


def job(envelope: Any, *, stream: bool = False, kind: JobKind = JobKind.CHAT, **fields: Any) -> Job:
    body = {"model": MODEL, "stream": stream, "pendra_encrypted": envelope}
    given = {"job_id": "j", "kind": kind, "model": MODEL, "stream": stream, "body": body, "bridge_id": "b"}
    return Job.model_validate({**given, "created": 0, **fields})
