"""The inference engine: schedule → run → postprocess, on one thread that owns context, slots and samplers.

Everyone else posts to its inbox and gets outputs through `on_step`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from tasks.errors import BadRequestError, PendraError, UnavailableError, WorkerError
from tasks.logs import event, where
from worker.engine import native
from worker.engine.api import EngineStats, FinishReason, GenerationRequest, StepOutput
from worker.engine.config import EngineConfig
from worker.engine.inbox import Cancel, Inbox, Submit
from worker.engine.limits import check_params
from worker.engine.model import LoadedModel
from worker.engine.pace import Pacer
from worker.engine.runner import NoRoomError, Runner
from worker.engine.sampling import Sampler, StepSampler
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import Sequence

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
        self._sequences: dict[str, Sequence] = {}
        self._outputs: list[StepOutput] = []
        self._thread: threading.Thread | None = None
        self._counters = _Counters()
        self._pacer = Pacer(config.n_batch)
        self._eog = model.eog
        self._piece = model.vocab.piece
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
        n_vocab = self._model.n_vocab
        if not request.prompt:
            raise BadRequestError("the prompt is empty; at least one token is needed", param="prompt")
        if len(request.prompt) >= self.ctx_limit:
            raise BadRequestError(
                f"the prompt has {len(request.prompt)} tokens; this model's context holds {self.ctx_limit}, "
                "prompt and reply together",
                code="context_length_exceeded",
            )
        for tokens in (request.prompt, request.resume):
            if tokens and not 0 <= min(tokens) <= max(tokens) < n_vocab:
                raise BadRequestError(f"the prompt holds token ids outside this model's 0 to {n_vocab - 1}")
        check_params(request.sampling, n_vocab)

    # ------------------------------------------------------------ engine thread

    def _run(self, ready: Future[None]) -> None:
        try:
            self._set_up()
        except BaseException as exc:  # noqa: BLE001  # raised again by `start`
            ready.set_exception(exc)
            return
        ready.set_result(None)
        self._loop()

    def _set_up(self) -> None:
        """Here and not in `start`: every thread that computes keeps workers of its own, see `native.rest`."""
        config = self._config
        self._runner = _warm_runner(self._model, config)
        self._sampler = StepSampler(self._model.vocab)
        self._scheduler = Scheduler(
            self._runner,
            slots=config.slots,
            cells=self._runner.cells,
            n_batch=config.n_batch,
            sharing=self._runner.sharing,
        )
        self._scheduler.chunk = config.prefill_chunk or self._pacer.chunk
        event(_log, logging.INFO, "engine.started", slots=config.slots, cells=self._runner.cells, ctx=self.ctx_limit)

    def _loop(self) -> None:
        while not self._inbox.closed:
            try:
                self._drain()
                self._step()
            except Exception as exc:  # noqa: BLE001  # whatever it was, the other requests are still to be served
                self._fail_running(exc)
            self._deliver()
            if self._scheduler.idle and not self._inbox:
                native.rest()
                self._inbox.wait()
        self._shut_down()

    def _drain(self) -> None:
        while (message := self._inbox.take()) is not None:
            if isinstance(message, Submit):
                self._accept(message.request, message.at)
            elif (seq := self._sequences.get(message.request_id)) is not None:
                self._finish(seq, FinishReason.CANCELLED)

    def _step(self) -> None:
        plan = self._scheduler.schedule(_now())
        if not plan:
            return
        sampled = plan.sampled()
        started = _now()
        try:
            logits = self._runner.run(plan)
        except NoRoomError:
            self._make_room()
            return
        self._scheduler.commit(plan)
        self._counters.steps += 1
        if logits is None:
            return
        if plan.prefill:
            self._pace(plan.tokens, _now() - started)
        self._postprocess(sampled, self._sampler.choose(sampled, logits))

    def _pace(self, tokens: int, seconds: float) -> None:
        if self._config.prefill_chunk is None:
            self._pacer.note(tokens, seconds)
            self._scheduler.chunk = self._pacer.chunk

    def _postprocess(self, sampled: list[Sequence], tokens: list[int]) -> None:
        now = _now()
        self._counters.completion_tokens += len(tokens)
        for seq, token in zip(sampled, tokens, strict=True):
            self._advance(seq, token, now)

    def _advance(self, seq: Sequence, token: int, now: float) -> None:
        seq.add(token, now)
        if token in self._eog:
            self._finish(seq, FinishReason.STOP)
            return
        text = seq.text.push(self._piece(token))
        if seq.text.stopped:
            self._finish(seq, FinishReason.STOP, text)
        elif len(seq.tokens) >= seq.limit:
            self._finish(seq, FinishReason.LENGTH, text)
        elif text:
            self._outputs.append(StepOutput(seq.id, text, seq.take_fresh()))

    def _accept(self, request: GenerationRequest, at: float) -> None:
        seq = Sequence(request, ctx_limit=self.ctx_limit, now=at)
        seq.restore_text([self._piece(token) for token in request.resume])
        self._sequences[seq.id] = seq
        self._scheduler.enqueue(seq)
        over = seq.over_before_start(self._eog)
        if over is not None:
            self._finish(seq, over)
            return
        seq.sampler = Sampler(request.sampling, self._model.vocab, ctx_limit=self.ctx_limit)
        seq.sampler.restore(request.prompt, request.resume, self._sampler.candidates)

    def _finish(self, seq: Sequence, reason: FinishReason, text: str = "") -> None:
        """The request is over; what its text still holds back is shown, unless nobody reads it."""
        self._scheduler.finish(seq)
        if reason is not FinishReason.CANCELLED:
            text += seq.text.finish()
        self._conclude(seq, reason, text=text)

    def _conclude(
        self, seq: Sequence, reason: FinishReason, *, text: str = "", error: PendraError | None = None
    ) -> None:
        """The last output of a sequence that has left the scheduler."""
        if seq.sampler is not None:
            seq.sampler.free()
        usage = seq.usage()
        self._counters.prompt_tokens += usage.prompt_tokens
        self._counters.cached_tokens += usage.cached_tokens
        self._outputs.append(StepOutput(seq.id, text, seq.take_fresh(), reason, usage, seq.timing(), error))
        del self._sequences[seq.id]
        self._ids.discard(seq.id)

    def _make_room(self) -> None:
        if not self._scheduler.make_room():
            raise WorkerError("the KV cache has no room for a single request's next step", code="out_of_memory")

    def _fail_running(self, exc: Exception) -> None:
        """A step went wrong: its sequences get the error, the cache is emptied, the engine goes on serving."""
        event(_log, logging.ERROR, "engine.step_failed", error=exc, where=where(exc), running=len(self._sequences))
        error = exc if isinstance(exc, PendraError) else WorkerError("the model's engine failed; try again")
        self._runner.clear()
        lost = self._scheduler.reset() or self._scheduler.drop_waiting()
        for seq in lost:
            self._conclude(seq, FinishReason.ERROR, error=error)

    def _deliver(self) -> None:
        self._stats = self._snapshot()
        outputs, self._outputs = self._outputs, []
        if not outputs:
            return
        try:
            self._on_step(outputs)
        except Exception as exc:  # noqa: BLE001  # a broken listener must not stop the other requests
            event(_log, logging.ERROR, "engine.listener_failed", error=exc, where=where(exc), outputs=len(outputs))

    def _shut_down(self) -> None:
        self._drain()
        error = UnavailableError("this model was unloaded before the reply was complete", code="draining")
        for seq in [*self._scheduler.reset(), *self._scheduler.drop_waiting()]:
            self._conclude(seq, FinishReason.ERROR, error=error)
        self._deliver()
        self._runner.close()
        event(_log, logging.INFO, "engine.closed", steps=self._counters.steps)

    def _snapshot(self) -> EngineStats:
        scheduler, counters = self._scheduler, self._counters
        return EngineStats(
            slots_total=self._config.slots,
            slots_busy=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(self._inbox),
            kv_cells_used=scheduler.cells_used,
            kv_cells_total=self._runner.cells,
            steps=counters.steps,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            completion_tokens=counters.completion_tokens,
        )


def _warm_runner(model: LoadedModel, config: EngineConfig) -> Runner:
    runner = Runner(model, config)
    try:
        runner.warm_up(max(0, model.vocab.bos))
    except BaseException:
        runner.close()
        raise
    return runner


@dataclass(slots=True)
class _Counters:
    """Since the start. Prompt and cached tokens are counted when a request ends, completion tokens as they come."""

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
