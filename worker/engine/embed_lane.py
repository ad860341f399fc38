"""One thread of an embedding engine, with a llama_context of its own: takes batches from the desk and runs them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import compress

import numpy as np

from tasks.errors import PendraError, WorkerError
from tasks.logs import event, where
from worker.engine import native
from worker.engine.embed_batch import Item
from worker.engine.embed_desk import Desk, Turn
from worker.engine.embedder_api import Floats
from worker.engine.pooling import PoolingContext

_log = logging.getLogger("pendra.engine")


class Lane:
    """Computes with `threads` while the others are idle, and with its `share` beside them."""

    def __init__(self, desk: Desk, open_context: Callable[[], PoolingContext], *, threads: int) -> None:
        self._desk = desk
        self._open_context = open_context
        self._threads = threads
        self.share = threads
        """Changed before the first request, when it is known how many lanes there are."""
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
        try:
            self._loop()
        finally:
            self._context.close()

    def _loop(self) -> None:
        while True:
            try:
                turn = self._desk.take(self._context.limit, native.rest)
                if turn is None:
                    return
                self._serve(turn)
            except Exception as exc:  # noqa: BLE001  # a lane that ends would leave requests that never do
                event(_log, logging.ERROR, "embedder.turn_failed", error=exc, where=where(exc))
                self._desk.fail_all(_failed())

    def _serve(self, turn: Turn) -> None:
        try:
            self._desk.fail_cancelled(turn.cancelled)
            if turn.batch:
                self._compute_with(self._threads if turn.alone else self.share)
                self._run(turn.batch)
                self._desk.tell(item.pending for item in turn.batch)
        finally:
            self._desk.done(turn)

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
                self._desk.fail(batch[0].pending, exc if isinstance(exc, PendraError) else _failed())
                return
            for item in batch:
                if self._desk.is_open(item.pending):
                    self._run([item])
            return
        self.steps += 1
        self.tokens += sum(len(item.tokens) for item in batch)
        self._keep(batch, rows)

    def _keep(self, batch: Sequence[Item], rows: Floats) -> None:
        """First those that fail: once all its vectors are stored, another lane may call a request complete."""
        good = [bool(np.isfinite(row).all()) for row in rows]
        for item, fine in zip(batch, good, strict=True):
            if not fine:
                broken = f"the model gave numbers that are none for input {item.index}"
                self._desk.fail(item.pending, WorkerError(broken))
        self._desk.store(list(compress(batch, good)), rows[good])


def shares(threads: int, lanes: int) -> list[int]:
    """What each lane computes with while all of them work; the first ones take what does not divide."""
    return [max(1, (threads + lanes - 1 - number) // lanes) for number in range(lanes)]


def _failed() -> WorkerError:
    return WorkerError("the embedding engine failed; try again")
