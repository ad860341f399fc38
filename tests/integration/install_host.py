"""A host with an installer agent, and what a script on another machine has: a Celery app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tasks.celery_app import make_app
from tasks.celery_config import INSTALL
from tasks.keys import install_queue
from tests.fakes.waiting import PATIENCE_S, until
from tests.worker.store.models import SHA256, FileServer

ROOT = Path(__file__).resolve().parents[2]
NODE = "host1"
OURS = ("PENDRA", "HF_", "WORKER_")


def tiny(server: FileServer) -> dict[str, str]:
    """What to ask for: the small model that the server has."""
    return {"model": "tiny:1", "source": server.url, "sha256": SHA256}


class Host:
    """Its agent runs while it is entered, or from `start` to `close`."""

    def __init__(self, url: str, home: Path, **env: str) -> None:
        self.home = home
        self.store = home / "models"
        self.app = make_app(url)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.env |= {"PENDRA_REDIS_URL": url, "PENDRA_HOME": str(home), "WORKER_ID": NODE} | env
        self.env.setdefault("PENDRA_PRIVATE_SOURCES", "true")  # the tests' servers are on this machine
        self.process: subprocess.Popen[bytes] | None = None
        self._lives = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        argv = [sys.executable, "-m", "worker.installer_agent"]
        with (self.home / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        self._lives += 1
        until(lambda: self.log().count("agent.started") == self._lives, every_s=0.05)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.app.close()

    def log(self) -> str:
        return (self.home / "agent.log").read_text()

    def ask(self, name: str = INSTALL, **kwargs: Any) -> str:
        return str(self.app.send_task(name, kwargs=kwargs, queue=install_queue(NODE)).id)

    def meta(self, task_id: str) -> dict[str, Any]:
        return dict(self.app.backend.get_task_meta(task_id))

    def downloading(self, task_id: str) -> bool:
        meta = self.meta(task_id)
        return (
            meta["status"] == "PROGRESS" and meta["result"]["stage"] == "downloading" and meta["result"]["done"] > 0
        )

    def done(self, task_id: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        until(lambda: self.meta(task_id)["status"] in {"SUCCESS", "FAILURE", "REVOKED"}, timeout_s, 0.05)
        return self.meta(task_id)

    def words(self, task_id: str) -> str:
        """What a failed task says."""
        meta = self.done(task_id)
        assert meta["status"] == "FAILURE"
        return str(meta["result"])
