"""The Celery program of the installer agent: threads, one queue, the node name `install@<node>`.

SIGTERM stops the installs at once but in order; they go on at the next start.
"""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.apps.worker import Worker
from celery.worker.control import control_command, inspect_command

from tasks import hooks, keys, logs
from tasks.celery_config import AGENT_NAME
from tasks.settings import load_settings
from worker.installer_agent import Agent, current, install_agent
from worker.store.catalogue import Catalogue

AT_ONCE = 8  # installs of different models; those of one model join


class AgentProgram(Worker):  # type: ignore[misc]  # Celery ships no types
    """Main thread only."""

    def __init__(self, app: Any = None, **options: Any) -> None:
        """Raises ConfigError for settings that cannot be used."""
        settings = load_settings()
        logs.configure(settings, "agent")
        self.agent = Agent(settings)
        install_agent(self.agent)
        hooks.connect()
        hooks.own_logging()
        signals.worker_shutting_down.connect(self._shutting_down, weak=False, dispatch_uid="pendra.agent.shutdown")
        fixed = {"pool": "threads", "concurrency": AT_ONCE, "without_gossip": True, "without_mingle": True}
        fixed |= {
            "hostname": AGENT_NAME.format(node=self.agent.node),
            "queues": [keys.install_queue(self.agent.node)],
        }
        super().__init__(app=app, **options | fixed)

    def on_consumer_ready(self, consumer: Any) -> None:
        super().on_consumer_ready(consumer)
        self.agent.start(self.app)

    def start(self) -> None:
        """Blocks until the agent has ended."""
        try:
            super().start()
        finally:
            self.agent.close()

    def _shutting_down(self, **_: Any) -> None:
        self.agent.drain()  # a flag only: this runs in the signal's handler


@control_command(args=[("target", str), ("discard", bool)], signature="<task id or model> [discard]")  # type: ignore[untyped-decorator]
def cancel_install(_state: Any, target: str, *, discard: bool = False) -> dict[str, Any]:
    """Stop an install; what came so far stays for a later try unless `discard`."""
    return {"ok": current().cancel(str(target), discard=bool(discard))}


@inspect_command()  # type: ignore[untyped-decorator]
def installed_models(_state: Any) -> list[dict[str, Any]]:
    """The models of this host's store, broken ones with their reason."""
    return [
        {**entry.advert().model_dump(exclude={"loaded"}), "problem": entry.problem.message if entry.problem else None}
        for entry in Catalogue(current().store).entries()
    ]
