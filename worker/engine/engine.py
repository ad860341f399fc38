"""The inference engine: schedule → run → postprocess, on one thread that owns context, slots and samplers.

Everyone else posts to its inbox and gets outputs through `on_step`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from tasks.errors import BadRequestError, UnavailableError
from tasks.logs import event, where
from worker.engine import native
from worker.engine.api import EngineStats, GenerationRequest, StepOutput
from worker.engine.config import EngineConfig
from worker.engine.core import Core
from worker.engine.inbox import Cancel, Inbox, Submit
from worker.engine.limits import check_request
from worker.engine.model import LoadedModel

_log = logging.getLogger("pendra.engine")
_now = time.monotonic

OnStep = Callable[[list[StepOutput]], None]


class Engine:
    """Serves many generations at once from one model.

    `on_step` is called on the engine thread with all outputs of one step; it must return quickly and not raise.
    `submit`, `cancel`, `stats` and `close` are safe from any thread and never wait for a decode (`close` waits for
    the one that is running). Every accepted request gets exactly one output with a `finish_reason`.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig, on_step: OnStep) -> None:
        self._model = model
        self._config = config
        self._on_step = on_step
        self._inbox = Inbox()
        self._ids: set[str] = set()
        self._ids_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stats = EngineStats(config.slots, 0, 0, 0, config.cells, 0, 0, 0, 0)
        self.ctx_limit = min(config.ctx_per_seq, config.cells, model.n_ctx_train or config.ctx_per_seq)
        """The most tokens one request may hold, prompt and reply together."""

    # ------------------------------------------------------------ any thread

    def start(self) -> None:
        """Make the context, warm it up and start the thread. Blocks. Raises WorkerError (out_of_memory, …)."""
        if self._thread is not None:
            raise RuntimeError("the engine is started already")
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="pendra-engine", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self.close()
            raise

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; outputs follow through `on_step`.

        Raises BadRequestError (context_length_exceeded when the prompt leaves no room for a token; bad parameters)
        and UnavailableError (draining) once the engine is closed.
        """
        self._check(request)
        with self._ids_lock:
            if request.request_id in self._ids:
                raise BadRequestError(f"request {request.request_id} is running already")
            self._ids.add(request.request_id)
        if not self._inbox.put(Submit(request, _now())):
            self._ids.discard(request.request_id)
            raise UnavailableError("this model is being unloaded; try again", code="draining")

    def cancel(self, request_id: str) -> None:
        """Stop a request within one step, wherever it stands; its last output says CANCELLED. Any id may be given."""
        self._inbox.put(Cancel(request_id))

    def stats(self) -> EngineStats:
        """The state after the last step."""
        return self._stats

    def close(self) -> None:
        """Stop after the running step. What is unfinished ends with the error `draining`. Idempotent."""
        self._inbox.close()
        if self._thread is not None:
            self._thread.join()

    def _check(self, request: GenerationRequest) -> None:
        if not request.prompt:
            raise BadRequestError("the prompt is empty; at least one token is needed", param="prompt")
        if len(request.prompt) >= self.ctx_limit:
            raise BadRequestError(
                f"the prompt has {len(request.prompt)} tokens; this model's context holds {self.ctx_limit}, "
                "prompt and reply together",
                code="context_length_exceeded",
            )
        check_request(request, self._model.n_vocab)

    # ------------------------------------------------------------ engine thread

    def _run(self, ready: Future[None]) -> None:
        """The core is made here and not in `start`: each thread that computes keeps workers, see `native.rest`."""
        try:
            self._core = Core(self._model, self._config, self.ctx_limit)
        except BaseException as exc:  # noqa: BLE001  # raised again by `start`
            ready.set_exception(exc)
            return
        cells = self._core.runner.cells
        event(_log, logging.INFO, "engine.started", slots=self._config.slots, cells=cells, ctx=self.ctx_limit)
        ready.set_result(None)
        self._loop()

    def _loop(self) -> None:
        core = self._core
        while not self._inbox.closed:
            try:
                self._drain()
                core.step()
            except Exception as exc:  # noqa: BLE001  # whatever it was, the other requests are still to be served
                core.fail_running(exc)
            self._deliver()
            if core.idle and not self._inbox:
                native.rest()
                self._inbox.wait()
        self._drain()
        core.close(UnavailableError("this model was unloaded before the reply was complete", code="draining"))
        self._deliver()

    def _drain(self) -> None:
        while (message := self._inbox.take()) is not None:
            if isinstance(message, Submit):
                self._core.accept(message.request, message.at)
            else:
                self._core.cancel(message.request_id)

    def _deliver(self) -> None:
        self._stats = self._core.stats(queued=len(self._inbox))
        outputs, self._core.outputs = self._core.outputs, []
        if not outputs:
            return
        for output in outputs:
            if output.usage is not None:
                self._ids.discard(output.request_id)
        try:
            self._on_step(outputs)
        except Exception as exc:  # noqa: BLE001  # a broken listener must not stop the other requests
            event(_log, logging.ERROR, "engine.listener_failed", error=exc, where=where(exc), outputs=len(outputs))
