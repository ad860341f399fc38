"""The embedding engine: packs inputs of all requests into batches and reads their vectors, in one lane or in several.

A batch takes a fixed number of operations, and all threads wait for each other after every one of them. Two lanes
with half of the threads each have half of that, and none of them stands still while the other's vectors are read.
On two cores that is faster by a sixth (`docs/decisions/0008-embedding-batches.md`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from tasks.errors import BadRequestError, UnavailableError
from tasks.logs import event
from worker.engine.api import EngineStats
from worker.engine.config import SHORT
from worker.engine.embed_batch import BatchQueue, Pending
from worker.engine.embed_desk import Desk
from worker.engine.embed_lane import Lane, shares
from worker.engine.embedder_api import EmbedConfig, EmbedRequest, Listener
from worker.engine.model import LoadedModel
from worker.engine.pooling import PoolingContext

_log = logging.getLogger("pendra.engine")


class Embedder:
    """Embeds (or ranks) the inputs of many requests at once, with one model.

    `submit`, `cancel`, `stats` and `close` are safe from any thread and never wait for a batch (`close` waits for
    those that are running). Every accepted request's listener gets outputs, one after the other and on threads of the
    engine, the last of them with vectors or an error; it must return quickly.
    """

    def __init__(self, model: LoadedModel, config: EmbedConfig) -> None:
        self._model = model
        self._config = config
        self._desk = Desk(BatchQueue(tokens=config.pack_tokens, inputs=config.pack_inputs))
        self._lanes: list[Lane] = []

    def start(self) -> None:
        """Make the contexts, try them and start the threads. Blocks. Raises WorkerError (out_of_memory, …)."""
        if self._lanes:
            raise RuntimeError("the embedding engine is started already")
        context = self._begin(self._config)
        self.ctx_limit = context.limit
        """The most tokens one input may hold."""
        self.width = context.width
        self.ranks = context.ranks
        """Whether its vectors are a reranker's scores."""
        if context.keeps_nothing:
            self._add_lanes()
        lanes = len(self._lanes)
        for lane, share in zip(self._lanes, shares(self._config.threads, lanes), strict=True):
            lane.share = share
        event(
            _log,
            logging.INFO,
            "embedder.started",
            width=self.width,
            ctx=self.ctx_limit,
            ranks=self.ranks,
            lanes=lanes,
        )

    def _add_lanes(self) -> None:
        """The others leave long inputs, and the memory for them, to the first one. Without them it is just slower."""
        short = replace(self._config, ctx_per_input=min(max(SHORT, self._config.pack_tokens), self.ctx_limit))
        try:
            while len(self._lanes) < min(self._config.lanes, self._config.threads):
                self._begin(short)
        except Exception as exc:  # noqa: BLE001  # whatever it was, the first one serves everything
            event(_log, logging.WARNING, "embedder.fewer_lanes", lanes=len(self._lanes), error=exc)

    def _begin(self, config: EmbedConfig) -> PoolingContext:
        lane = Lane(self._desk, lambda: PoolingContext(self._model, config), threads=config.threads)
        context = lane.start()
        self._lanes.append(lane)
        return context

    def submit(self, request: EmbedRequest, listener: Listener) -> None:
        """Queue a request.

        Raises BadRequestError (no inputs, an empty or too long one, unknown token ids; the index is named) and
        UnavailableError (draining) once the engine is closed.
        """
        self._check(request)
        self._desk.add(Pending(request, listener, width=self.width, at=time.monotonic()))

    def cancel(self, request_id: str) -> None:
        """Stop a request before the next batch; its last output says JobCancelledError. Any id may be given."""
        self._desk.cancel(request_id)

    def stats(self) -> EngineStats:
        """How busy it is. It has no KV cells and completes no tokens."""
        busy, waiting = self._desk.counts()
        steps, tokens = (sum(getattr(lane, what) for lane in self._lanes) for what in ("steps", "tokens"))
        return EngineStats(self._config.slots, busy, waiting, 0, 0, steps, tokens, 0, 0)

    def close(self) -> None:
        """Stop after the running batches. What is unfinished ends with the error `draining`. Idempotent."""
        first = self._desk.close()
        for lane in self._lanes:
            lane.join()
        unloaded = "this model was unloaded before the reply was complete"
        self._desk.fail_all(UnavailableError(unloaded, code="draining"))
        if first and self._lanes:
            event(_log, logging.INFO, "embedder.closed", steps=self.stats().steps)

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
