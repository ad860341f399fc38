"""What the bridge says through Celery: jobs to workers, installs to the agents of hosts.

Celery's calls block, so they run in one thread of its own (more are slower), in the order asked. kombu lets errors of
many libraries through; whoever awaits takes any of them for "not sent".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from bridge.effects import Enqueue, StartTask, StopTask
from tasks import keys
from tasks.celery_config import AGENT_NAME, ARGSREPR, CANCEL_INSTALL, INFER
from tasks.logs import event

log = logging.getLogger("pendra.bridge.dispatch")


class CelerySender:
    """Used on the event loop, which it does not block. `app`: the Celery app; closed with this."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="celery-send")

    def connect(self) -> Awaitable[object]:
        """Connect now: the first send would take 60 ms longer. A Redis that is away is no error."""
        return self._in_thread(self._connect)

    def infer(self, effect: Enqueue) -> Awaitable[object]:
        """The message of a job, which names it and nothing more."""
        send = partial(
            self._app.send_task,
            INFER,
            kwargs={"job_id": effect.job_id, "attempt": effect.attempt, "model": effect.model, "size": effect.size},
            task_id=f"{effect.job_id}.{effect.attempt}",
            queue=effect.queue,
            argsrepr=ARGSREPR,
            kwargsrepr=ARGSREPR,
            ignore_result=True,
            retry=False,
        )
        return self._in_thread(send)

    def start(self, effect: StartTask) -> Awaitable[object]:
        """A task for the agent of a host."""
        send = partial(
            self._app.send_task,
            effect.name,
            kwargs=effect.arguments,
            task_id=effect.task_id,
            queue=keys.install_queue(effect.node),
            retry=False,
        )
        return self._in_thread(send)

    def stop(self, effect: StopTask) -> Awaitable[object]:
        """An agent that is there stops the task, or drops it when it has not begun."""
        return self._in_thread(partial(self._stop, effect))

    def close(self) -> None:
        """What waits to be sent is not sent any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._app.close()

    def _in_thread(self, call: Callable[[], object]) -> Awaitable[object]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _stop(self, effect: StopTask) -> None:
        """It hears both in this order, so that a running install knows about `discard` when it stops."""
        if effect.discard:
            self._app.control.broadcast(
                CANCEL_INSTALL,
                arguments={"target": effect.task_id, "discard": True},
                destination=[AGENT_NAME.format(node=effect.node)],
            )
        self._app.control.revoke(effect.task_id)

    def _connect(self) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                producer.connection.ensure_connection(max_retries=1, timeout=1)
        except Exception as exc:  # noqa: BLE001  # any failure here will be met again, and handled, by the first send
            event(log, logging.WARNING, "celery.not_connected", error=type(exc).__name__)
