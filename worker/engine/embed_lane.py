"""One thread of an embedding engine, with a llama_context of its own: takes batches from the desk and runs them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from tasks.errors import PendraError, WorkerError
from tasks.logs import event, where
from worker.engine import native
from worker.engine.embed_batch import Item
from worker.engine.embed_desk import Desk
from worker.engine.pooling import PoolingContext

_log = logging.getLogger("pendra.engine")


class Lane:
    """`threads` is what it computes with beside other lanes, `alone` what it may take when they are idle."""

    def __init__(self, desk: Desk, open_context: Callable[[], PoolingContext], *, threads: int, alone: int) -> None:
        self._desk = desk
        self._open_context = open_context
        self._threads, self._alone = threads, alone
        self._thread = threading.Thread(target=self._main, name="pendra-embedder", daemon=True)
        self._ready: Future[PoolingContext] = Future()
        self.steps = 0
        self.tokens = 0

    def start(self) -> PoolingContext:
        """Make the context, try it and start taking batches. Blocks. Raises WorkerError (out_of_memory, …)."""
        self._thread.start()
        return self._ready.result()

    def join(self) -> None:
        """Wait until it has ended, which it does when the desk is closed."""
        if self._thread.is_alive():
            self._thread.join()

    def _main(self) -> None:
        try:
            self._context = self._set_up()
        except BaseException as exc:  # noqa: BLE001  # raised again by `start`
            self._ready.set_exception(exc)
            return
        self._ready.set_result(self._context)
        while (turn := self._desk.take(self._context.limit, native.rest)) is not None:
            self._desk.fail_cancelled(turn.cancelled)
            if turn.batch:
                self._compute_with(self._alone if turn.alone else self._threads)
                self._run(turn.batch)
                self._desk.tell(item.pending for item in turn.batch)
            self._desk.done()
        self._context.close()

    def _set_up(self) -> PoolingContext:
        """Here and not in `start`: every thread that computes keeps workers of its own, see `native.rest`."""
        context = self._open_context()
        try:
            context.run([context.shortest])
        except BaseException:
            context.close()
            raise
        return context

    def _compute_with(self, threads: int) -> None:
        if threads != self._context.threads:
            native.rest()  # workers that are not used any more count all the same
            self._context.threads = threads

    def _run(self, batch: Sequence[Item]) -> None:
        """Run a batch; when it fails, each of its inputs alone, so that only those at fault fail."""
        try:
            rows = self._context.run([item.tokens for item in batch])
        except Exception as exc:  # noqa: BLE001  # whatever it was, the other requests are still to be served
            event(_log, logging.ERROR, "embedder.batch_failed", error=exc, where=where(exc), inputs=len(batch))
            if len(batch) == 1:
                error = exc if isinstance(exc, PendraError) else WorkerError("the embedding engine failed; try again")
                self._desk.fail(batch[0].pending, error)
                return
            for item in batch:
                if self._desk.is_open(item.pending):
                    self._run([item])
            return
        self.steps += 1
        self.tokens += sum(len(item.tokens) for item in batch)
        self._desk.store(batch, rows)
        for item, row in zip(batch, rows, strict=True):
            if not np.isfinite(row).all():
                broken = f"the model gave numbers that are none for input {item.index}"
                self._desk.fail(item.pending, WorkerError(broken))
