"""Serves embeddings, or ranks, from one GGUF with the embedding engine of this process.

task thread:    parse ─► tokenise ─► embedder.submit ─► wait for the vectors ─► shape ─► the job's reply
engine thread:  progress ─► the job's reply; the last output wakes the task thread
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tasks.contract import Job, JobKind, Timing, Usage
from tasks.errors import BadRequestError, JobCancelledError, UnavailableError
from tasks.logs import event
from worker.backends.base import CancelToken, Reply
from worker.embeddings.reply import embeddings_reply, rerank_reply
from worker.embeddings.request import EmbeddingsRequest, parse_embeddings
from worker.embeddings.rerank import RerankRequest, parse_rerank
from worker.embeddings.vectors import Floats, normalised
from worker.engine.api import EngineStats
from worker.engine.embedder_api import EmbedOutput, EmbedRequest, Listener

_LOG = logging.getLogger("pendra.embedding")
_PROGRESS_EVERY_S = 1.0
_CLOSE_S = 10.0

Tokens = tuple[int, ...]


class Model(Protocol):
    """What is needed of `worker.engine.model.LoadedModel`."""

    @property
    def n_vocab(self) -> int: ...
    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]: ...
    def close(self) -> None: ...


class Pairs(Protocol):
    """What is needed of `worker.engine.pooling_pairs.PairTokens`."""

    @property
    def probabilities(self) -> bool: ...
    def tokens(self, query: str, document: str) -> Tokens: ...


class Engine(Protocol):
    """What is needed of `worker.engine.embedder.Embedder`."""

    @property
    def ctx_limit(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def ranks(self) -> bool: ...
    def start(self) -> None: ...
    def submit(self, request: EmbedRequest, listener: Listener) -> None: ...
    def cancel(self, request_id: str) -> None: ...
    def stats(self) -> EngineStats: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Work:
    """What a job asks of the engine, and how its vectors become the reply."""

    inputs: tuple[Tokens, ...] = field(repr=False)
    shape: Callable[[Floats], str]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.inputs))


class EmbeddingBackend:
    """Owns the model and its engine. A model that pools ranks serves rerank, all others embeddings.

    Making one starts the engine and blocks. Raises WorkerError (out_of_memory, unsupported_architecture, …); the
    model is closed then.
    """

    def __init__(self, model: Model, pairs: Pairs, engine: Engine) -> None:
        self._model = model
        self._pairs = pairs
        self._engine = engine
        self._changed = threading.Condition()
        self._users = 0
        self._closed = False
        try:
            engine.start()
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
        self._check(job)
        with self._in_use():
            work = self._ranking(job) if job.kind is JobKind.RERANK else self._embedding(job)
            if cancel.cancelled:
                raise JobCancelledError("the request was cancelled before it began")
            output = self._run(f"{job.job_id}:{job.attempt}", work, reply, cancel)
            if output.vectors is None:
                raise output.error or JobCancelledError("the request was cancelled")
            data = work.shape(output.vectors)
        timing = Timing(worker_queue_wait_ms=round(output.queue_ms, 3))
        reply.finish(data, usage=Usage(prompt_tokens=work.tokens), timing=timing)

    def close(self) -> None:
        """End what runs with the error `draining` and free the memory. Blocks; idempotent."""
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
            event(_LOG, logging.ERROR, "embedding.leaked", users=self._users)

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

    def _check(self, job: Job) -> None:
        serves = JobKind.RERANK if self._engine.ranks else JobKind.EMBEDDINGS
        if job.kind is not serves:
            raise BadRequestError(
                f"the model {job.model} serves {serves}, not {job.kind}", code="wrong_capability", param="model"
            )
        if job.stream:
            raise BadRequestError(f"{serves} cannot be streamed", code="unsupported_parameter", param="stream")

    def _run(self, request_id: str, work: _Work, reply: Reply, cancel: CancelToken) -> EmbedOutput:
        waiting = _Waiting(reply)
        self._engine.submit(EmbedRequest(request_id, work.inputs), waiting.take)
        cancel.on_cancel(partial(self._engine.cancel, request_id))
        return waiting.last()

    # -------------------------------------------------------------- embeddings

    def _embedding(self, job: Job) -> _Work:
        request = parse_embeddings(job.body)
        if request.dimensions is not None and request.dimensions > self._engine.width:
            raise BadRequestError(
                f"dimensions is {request.dimensions}; the vectors of {job.model} have {self._engine.width}",
                param="dimensions",
            )
        names = [_name("input", index, single=request.single) for index in range(len(request.inputs))]
        inputs = tuple(self._tokens(entry) for entry in request.inputs)
        self._check_inputs(job, inputs, names)
        return _Work(inputs, partial(_embeddings, job, request, sum(map(len, inputs))))

    def _tokens(self, entry: str | Tokens) -> Tokens:
        """Token ids are taken as they are. Names of special tokens in a text count, as in llama-server."""
        if isinstance(entry, tuple):
            return entry
        return tuple(self._model.tokenize(entry, add_special=True, parse_special=True))

    # ------------------------------------------------------------------ rerank

    def _ranking(self, job: Job) -> _Work:
        request = parse_rerank(job.body)
        inputs = tuple(self._pairs.tokens(request.query, document) for document in request.documents)
        names = [f"documents[{index}] together with the query" for index in range(len(inputs))]
        self._check_inputs(job, inputs, names)
        plain = request.raw_scores or self._pairs.probabilities
        return _Work(inputs, partial(_ranks, job, request, sum(map(len, inputs)), plain=plain))

    def _check_inputs(self, job: Job, inputs: Sequence[Tokens], names: Sequence[str]) -> None:
        """Raises BadRequestError for the first input that cannot be used."""
        limit = self._engine.ctx_limit
        for tokens, name in zip(inputs, names, strict=True):
            param = name.partition(" ")[0]
            if not tokens:
                raise BadRequestError(f"{name} has no tokens; there is nothing to read", param=param)
            if len(tokens) > limit:
                raise BadRequestError(
                    f"{name} has {len(tokens)} tokens, and {job.model} reads {limit} at most; shorten it or split it",
                    code="context_length_exceeded",
                    param=param,
                )
            if max(tokens) >= self._model.n_vocab:
                raise BadRequestError(
                    f"{name} holds token ids that {job.model} does not have; its last is {self._model.n_vocab - 1}",
                    param=param,
                )


class _Waiting:
    """A job between its submission and its end. `take` belongs to the engine thread."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._ended = threading.Event()
        self._told_at = time.monotonic()
        self._last: EmbedOutput | None = None

    def take(self, output: EmbedOutput) -> None:
        if output.last:
            self._last = output
            self._ended.set()
            return
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_EVERY_S:  # silence looks like a fault
            self._told_at = now
            self._reply.progress("embedding", output.done / output.total)

    def last(self) -> EmbedOutput:
        """Block until the request has ended."""
        self._ended.wait()
        assert self._last is not None  # noqa: S101  # set before the event
        return self._last


def _embeddings(job: Job, request: EmbeddingsRequest, tokens: int, vectors: Floats) -> str:
    rows = normalised(vectors, request.norm, request.dimensions)
    return embeddings_reply(job, rows, tokens, base64=request.base64)


def _ranks(job: Job, request: RerankRequest, tokens: int, vectors: Floats, *, plain: bool) -> str:
    return rerank_reply(job, request, vectors[:, 0].tolist(), tokens, plain=plain)


def _name(what: str, index: int, *, single: bool) -> str:
    return what if single else f"{what}[{index}]"
