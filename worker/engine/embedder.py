"""The embedding engine: one thread that packs inputs of all requests into batches and reads their vectors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from tasks.errors import BadRequestError, JobCancelledError, PendraError, UnavailableError, WorkerError
from tasks.logs import event, where
from worker.engine import native
from worker.engine.api import EngineStats
from worker.engine.embed_batch import BatchQueue, Item, Pending
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest, Listener
from worker.engine.model import LoadedModel
from worker.engine.pooling import PoolingContext

_log = logging.getLogger("pendra.engine")
_now = time.monotonic


@dataclass(frozen=True, slots=True)
class _Submit:
    request: EmbedRequest
    listener: Listener
    at: float


@dataclass(frozen=True, slots=True)
class _Cancel:
    request_id: str


_CLOSE = None
_Message = _Submit | _Cancel | None


class Embedder:
    """Embeds (or ranks) the inputs of many requests at once, with one model.

    `submit`, `cancel`, `stats` and `close` are safe from any thread and never wait for a batch (`close` waits for the
    one that is running). Every accepted request's listener gets outputs on the engine thread, the last of them with
    vectors or an error; it must return quickly.
    """

    def __init__(self, model: LoadedModel, config: EmbedConfig) -> None:
        self._model = model
        self._config = config
        self._inbox: SimpleQueue[_Message] = SimpleQueue()
        self._lock = threading.Lock()
        self._ids: set[str] = set()
        self._closed = False
        self._queue = BatchQueue(tokens=config.pack_tokens, inputs=config.pack_inputs)
        self._open: dict[str, Pending] = {}
        self._thread: threading.Thread | None = None
        self._steps = 0
        self._tokens = 0

    # ------------------------------------------------------------ any thread

    def start(self) -> None:
        """Make the context, try it and start the thread. Blocks. Raises WorkerError (out_of_memory, …)."""
        if self._thread is not None:
            raise RuntimeError("the embedding engine is started already")
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="pendra-embedder", daemon=True)
        self._thread.start()
        ready.result()

    def submit(self, request: EmbedRequest, listener: Listener) -> None:
        """Queue a request.

        Raises BadRequestError (no inputs, an empty or too long one, unknown token ids; the index is named) and
        UnavailableError (draining) once the engine is closed.
        """
        self._check(request)
        with self._lock:
            if self._closed:
                raise UnavailableError("this model is being unloaded; try again", code="draining")
            if request.request_id in self._ids:
                raise BadRequestError(f"request {request.request_id} is running already")
            self._ids.add(request.request_id)
            self._inbox.put(_Submit(request, listener, _now()))

    def cancel(self, request_id: str) -> None:
        """Stop a request before the next batch; its last output says JobCancelledError. Any id may be given."""
        self._inbox.put(_Cancel(request_id))

    def stats(self) -> EngineStats:
        """How busy it is. It has no KV cells and completes no tokens."""
        busy = len(self._open)
        waiting = max(0, len(self._ids) - busy)
        return EngineStats(self._config.slots, busy, waiting, 0, 0, self._steps, self._tokens, 0, 0)

    def close(self) -> None:
        """Stop after the running batch. What is unfinished ends with the error `draining`. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(_CLOSE)
        if self._thread is not None:
            self._thread.join()

    def _check(self, request: EmbedRequest) -> None:
        if not request.inputs:
            raise BadRequestError("there is nothing to embed; at least one input is needed")
        for index, tokens in enumerate(request.inputs):
            if not tokens:
                raise BadRequestError(f"input {index} is empty")
            if len(tokens) > self.ctx_limit:
                raise BadRequestError(
                    f"input {index} has {len(tokens)} tokens; this model takes {self.ctx_limit} at most",
                    code="context_length_exceeded",
                )
            if not 0 <= min(tokens) <= max(tokens) < self._model.n_vocab:
                raise BadRequestError(
                    f"input {index} holds token ids outside this model's 0 to {self._model.n_vocab - 1}"
                )

    # ------------------------------------------------------------ engine thread

    def _main(self, ready: Future[None]) -> None:
        try:
            self._set_up()
        except BaseException as exc:  # noqa: BLE001  # raised again by `start`
            ready.set_exception(exc)
            return
        ready.set_result(None)
        while self._drain():
            self._step()
        self._shut_down()

    def _set_up(self) -> None:
        """Here and not in `start`: every thread that computes keeps workers of its own, see `native.rest`."""
        self._context = context = PoolingContext(self._model, self._config)
        try:
            context.run([[max(0, self._model.vocab.bos)]])
        except BaseException:
            context.close()
            raise
        self.ctx_limit = context.limit
        """The most tokens one input may hold."""
        self.width = context.width
        self.ranks = context.ranks
        """Whether its vectors are a reranker's scores."""
        event(_log, logging.INFO, "embedder.started", width=self.width, ctx=self.ctx_limit, ranks=self.ranks)

    def _drain(self) -> bool:
        """Take in all messages, waiting for one while there is nothing to do. False: close."""
        while self._inbox.qsize() or not len(self._queue):
            if not self._inbox.qsize():
                native.rest()
            message = self._inbox.get()
            if message is _CLOSE:
                return False
            if isinstance(message, _Submit):
                pending = Pending(message.request, message.listener, width=self.width, at=message.at)
                self._open[message.request.request_id] = pending
                self._queue.add(pending)
            elif isinstance(message, _Cancel) and (found := self._open.get(message.request_id)) is not None:
                self._fail(found, JobCancelledError("the request was cancelled"))
        return True

    def _step(self) -> None:
        batch = self._queue.next_batch()
        now = _now()
        for item in batch:
            item.pending.begin(now)
        self._run(batch)
        for pending in {id(item.pending): item.pending for item in batch}.values():
            if self._is_open(pending):
                self._tell(pending)

    def _run(self, batch: Sequence[Item]) -> None:
        """Run a batch; when it fails, each of its inputs alone, so that only those at fault fail."""
        try:
            rows = self._context.run([item.tokens for item in batch])
        except Exception as exc:  # noqa: BLE001  # whatever it was, the other requests are still to be served
            event(_log, logging.ERROR, "embedder.batch_failed", error=exc, where=where(exc), inputs=len(batch))
            if len(batch) == 1:
                error = exc if isinstance(exc, PendraError) else WorkerError("the embedding engine failed; try again")
                self._fail(batch[0].pending, error)
                return
            for item in batch:
                if self._is_open(item.pending):
                    self._run([item])
            return
        self._steps += 1
        self._tokens += sum(len(item.tokens) for item in batch)
        for item, row in zip(batch, rows, strict=True):
            if np.isfinite(row).all():
                item.pending.store(item.index, row)
            elif self._is_open(item.pending):
                self._fail(item.pending, WorkerError(f"the model gave numbers that are none for input {item.index}"))

    def _is_open(self, pending: Pending) -> bool:
        return self._open.get(pending.request.request_id) is pending

    def _tell(self, pending: Pending) -> None:
        output = pending.output()
        if output.last:
            self._forget(pending)
        _call(pending.listener, output)

    def _fail(self, pending: Pending, error: PendraError) -> None:
        self._queue.drop(pending)
        self._forget(pending)
        output = EmbedOutput(pending.request.request_id, pending.done, pending.total, error=error)
        _call(pending.listener, output)

    def _forget(self, pending: Pending) -> None:
        del self._open[pending.request.request_id]
        self._ids.discard(pending.request.request_id)

    def _shut_down(self) -> None:
        error = UnavailableError("this model was unloaded before the reply was complete", code="draining")
        for pending in list(self._open.values()):
            self._fail(pending, error)
        self._context.close()
        event(_log, logging.INFO, "embedder.closed", steps=self._steps)


def _call(listener: Listener, output: EmbedOutput) -> None:
    try:
        listener(output)
    except Exception as exc:  # noqa: BLE001  # a broken listener must not stop the other requests
        event(_log, logging.ERROR, "embedder.listener_failed", error=exc, where=where(exc))
