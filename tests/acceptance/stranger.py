"""A site of somebody else: its own Redis, worker and bridge, with a worker key that nobody has enrolled."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bridge.identity import generate_seed
from tasks.sealing import FleetKey
from tests.acceptance.stack import MODEL, Stack

NODE = "wrk-stranger"
WORKER = f"{NODE}-cpu0"


@contextlib.contextmanager
def stranger(api_url: str, redis_url: str, home: Path, models_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Its worker and its bridge, which dials the control plane at `api_url`. Yields the bridge's process."""
    env = Stack(home, models_dir).env() | {
        "APP_SERVER_WS_URL": f"ws://{urlsplit(api_url).netloc}",
        "GPU_WORKER_PRIVATE_KEY": generate_seed(),
        "PENDRA_FLEET_KEY": FleetKey.generate().to_base64(),
        "PENDRA_REDIS_URL": redis_url,
        "WORKER_ID": NODE,
    }
    parts = [["worker", "--slots", "1", "--model", MODEL], ["bridge"]]
    with (home / "out").open("wb") as out:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "ops.cli", *part], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            for part in parts
        ]
    try:
        yield processes[1]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
