"""Serves chats and completions from one GGUF with the engine of this process.

task thread:      prepare (parse ─► render ─► tokenise) ─► engine.submit ─► wait for the end
engine thread:    on_step(outputs) ─► publisher.step(shape outputs)
publisher thread: shape: outputs ─► chunks ─► the job's reply        (one batch a step)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from tasks.contract import Job, JobKind, Timing, Usage
from tasks.errors import BadRequestError, JobCancelledError, PendraError, UnavailableError, WorkerError
from tasks.logs import event, where
from worker.backends.base import CancelToken, Reply, StepPublisher
from worker.backends.chats import Chats
from worker.backends.completions import Completions
from worker.backends.generation import Gathering, Generation, Model
from worker.engine.api import EngineStats, FinishReason, GenerationRequest, StepOutput

_LOG = logging.getLogger("pendra.llama")
_PROGRESS_EVERY_S = 2.0  # a job that does not stream is silent otherwise, and silence looks like a fault
_CLOSE_S = 10.0

OnStep = Callable[[list[StepOutput]], None]


class TextEngine(Protocol):
    """What is needed of `worker.engine.engine.Engine`."""

    @property
    def ctx_limit(self) -> int: ...
    def start(self) -> None: ...
    def submit(self, request: GenerationRequest) -> None: ...
    def cancel(self, request_id: str) -> None: ...
    def stats(self) -> EngineStats: ...
    def close(self) -> None: ...


class LlamaBackend:
    """Owns the model and its engine. `make_engine` gets the callback for the engine's steps.

    Making one starts the engine and blocks. Raises WorkerError (out_of_memory, model_load_failed, …); the model is
    closed then.
    """

    def __init__(self, model: Model, make_engine: Callable[[OnStep], TextEngine], publisher: StepPublisher) -> None:
        self._model = model
        self._publisher = publisher
        self._running: dict[str, _Running] = {}
        self._changed = threading.Condition()
        self._users = 0
        self._closed = False
        try:
            self._preparers: dict[JobKind, Chats | Completions] = {
                JobKind.CHAT: Chats(model),
                JobKind.COMPLETION: Completions(model),
            }
            self._engine = make_engine(self._on_step)
            self._engine.start()
        except BaseException:
            model.close()
            raise

    @property
    def context_length(self) -> int:
        return self._engine.ctx_limit

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def serve(self, job: Job, reply: Reply, cancel: CancelToken) -> None:
        """Run the job and block until it has ended. Raises PendraError when nothing was replied yet."""
        preparer = self._preparers.get(job.kind)
        if preparer is None:
            raise BadRequestError(f"the model {job.model} serves chat; {job.kind} is not available on this worker")
        with self._in_use():
            if cancel.cancelled:
                raise JobCancelledError("the request was cancelled before it began")
            ready = preparer.prepare(job, self._engine.ctx_limit)
            self._run(ready, _Running(job, reply, ready), cancel)

    def _run(self, ready: Generation, running: _Running, cancel: CancelToken) -> None:
        ids = [request.request_id for request in ready.requests]
        self._running.update(dict.fromkeys(ids, running))
        try:
            for request in ready.requests:
                self._engine.submit(request)
            cancel.on_cancel(partial(self._stop, ids))
            running.ended.wait()
        except BaseException:
            self._stop(ids)
            raise
        finally:
            for request_id in ids:
                del self._running[request_id]

    def _stop(self, ids: Sequence[str]) -> None:
        for request_id in ids:
            self._engine.cancel(request_id)

    def close(self) -> None:
        """End what runs with the error `draining` and free the memory. Blocks; idempotent.

        The publisher must still run: what ends is told through it.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
        self._engine.close()
        with self._changed:
            empty = self._changed.wait_for(lambda: not self._users, _CLOSE_S)
        if empty:
            self._model.close()
        else:  # freeing it under a thread that still reads it would kill the process
            event(_LOG, logging.ERROR, "llama.leaked", users=self._users)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """The model is not freed meanwhile."""
        with self._changed:
            if self._closed:
                raise UnavailableError("this model is being unloaded; try again", code="draining")
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    # ---------------------------------------------------------- engine thread

    def _on_step(self, outputs: list[StepOutput]) -> None:
        self._publisher.step(partial(self._shape, outputs))

    # ------------------------------------------------------- publisher thread

    def _shape(self, outputs: Sequence[StepOutput]) -> None:
        for output in outputs:
            running = self._running.get(output.request_id)
            if running is not None:
                self._take(running, output)

    def _take(self, running: _Running, output: StepOutput) -> None:
        if running.ended.is_set():
            return
        try:
            if not running.take(output):
                self._stop([one for one in running.ids if one != output.request_id or output.usage is None])
        except Exception as exc:  # noqa: BLE001  # one job's fault must not take the others of its step along
            event(_LOG, logging.ERROR, "llama.shape_failed", error=type(exc).__name__, at=where(exc))
            running.fail(WorkerError("the worker failed to write the reply; its log says where"))
            self._stop(running.ids)


class _Running:
    """One job between its submission and its end. `take` and `fail` belong to the publisher thread."""

    def __init__(self, job: Job, reply: Reply, ready: Generation) -> None:
        self.ended = threading.Event()
        self._job = job
        self._reply = reply
        self.ids = [request.request_id for request in ready.requests]
        self._shaper = ready.reply
        self._gathering = Gathering(ready.requests)
        limits = [request.max_tokens for request in ready.requests]
        self._max_tokens = sum(
            (limit or 0) * request.n for limit, request in zip(limits, ready.requests, strict=True)
        )
        self._made = 0
        self._told_at = time.monotonic()

    def take(self, output: StepOutput) -> bool:
        """False: the job has ended although some of its requests may go on; stop them."""
        error = failure(output)
        if error is not None:
            self.fail(error)
            return False
        output = self._gathering.take(output)
        for piece in self._shaper.pieces(output):
            self._reply.chunk(piece.data, piece.tokens)
        if output.usage is not None:
            self._finish(output.usage, output.timing or Timing())
        elif not self._job.stream:
            self._tell(len(output.tokens))
        return True

    def fail(self, error: PendraError) -> None:
        self._reply.fail(error)
        self.ended.set()

    def _finish(self, usage: Usage, timing: Timing) -> None:
        shaper = self._shaper
        data = None if self._job.stream else shaper.whole(usage)
        self._reply.finish(data, usage=shaper.usage(usage), timing=timing, notice=shaper.notice())
        self.ended.set()

    def _tell(self, made: int) -> None:
        self._made += made
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at = now
            self._reply.progress("decode", min(1.0, self._made / self._max_tokens) if self._max_tokens else 0.0)


def failure(output: StepOutput) -> PendraError | None:
    """Why a job ended badly; None while it runs and when it ended well."""
    if output.finish_reason is FinishReason.CANCELLED:
        return JobCancelledError("the request was cancelled")
    if output.finish_reason is FinishReason.ERROR:
        return output.error or WorkerError("the engine failed and did not say why")
    return None
