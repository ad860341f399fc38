"""What the engine thread does: take requests in, run steps, turn tokens into outputs. Nobody else calls this."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from tasks.errors import PendraError, WorkerError
from tasks.logs import event, where
from worker.engine.api import EngineStats, FinishReason, GenerationRequest, StepOutput
from worker.engine.config import EngineConfig
from worker.engine.group import Group
from worker.engine.masks import Masks
from worker.engine.model import LoadedModel
from worker.engine.pace import Pacer
from worker.engine.prompt_scores import Rows, rows_of
from worker.engine.runner import NoRoomError, Runner
from worker.engine.sampling import NO_TOKEN, Floats, Sampler, StepSampler
from worker.engine.scheduler import Plan, Scheduler
from worker.engine.sequence import Sequence, State
from worker.engine.speculation import MeasuredCosts, Speculator

_log = logging.getLogger("pendra.engine")
_now = time.monotonic


class Core:
    """One model's requests, on one thread. `outputs` gathers what a step produced; the engine hands it on.

    Making one makes and warms the context. Raises WorkerError (out_of_memory, …).
    """

    def __init__(self, model: LoadedModel, config: EngineConfig, ctx_limit: int) -> None:
        self._model = model
        self._config = config
        self._ctx_limit = ctx_limit
        self._eog = model.eog
        self._groups: dict[str, Group] = {}
        self._counters = _Counters()
        self._pacer = Pacer(config.n_batch)
        self._costs = MeasuredCosts()
        self._speculator = Speculator(self._costs, enabled=config.speculation, rewinds=model.can_rewind)
        self._masks = Masks()
        self.outputs: list[StepOutput] = []
        self.runner = _warm_runner(model, config)
        self.sampler = StepSampler(model.vocab)
        self._scheduler = Scheduler(
            self.runner,
            slots=config.slots,
            cells=self.runner.cells,
            n_batch=config.n_batch,
            sharing=self.runner.sharing,
            least_share=self.runner.least_share,
            spare_outputs=max(1, config.outputs - config.slots),
        )
        self._scheduler.chunk = config.prefill_chunk or self._pacer.chunk

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    # ------------------------------------------------------------ requests

    def accept(self, request: GenerationRequest, at: float) -> None:
        """A new request; `at`: when it was submitted."""
        group = Group(request, ctx_limit=self._ctx_limit, now=at)
        self._groups[request.request_id] = group
        self._scheduler.enqueue(group.first)
        for seq in group.choices:
            self._set_up(seq)

    def cancel(self, request_id: str) -> None:
        """End all choices of a request, if it is there."""
        group = self._groups.get(request_id)
        for seq in group.open if group is not None else ():
            self._finish(seq, FinishReason.CANCELLED)

    def fail_running(self, exc: Exception) -> None:
        """A step went wrong: its sequences get the error, the cache is emptied, the engine goes on serving."""
        event(_log, logging.ERROR, "engine.step_failed", error=exc, where=where(exc), running=len(self._groups))
        error = exc if isinstance(exc, PendraError) else WorkerError("the model's engine failed; try again")
        self.runner.clear()
        for seq in self._scheduler.reset() or self._scheduler.drop_waiting():
            self._conclude(seq, FinishReason.ERROR, error=error)

    def close(self, error: PendraError) -> None:
        """Everybody gets the error; the context is freed."""
        while lost := [*self._scheduler.reset(), *self._scheduler.drop_waiting()]:
            for seq in lost:
                self._conclude(seq, FinishReason.ERROR, error=error)
        self._masks.close()
        self.runner.close()
        event(_log, logging.INFO, "engine.closed", steps=self._counters.steps)

    def stats(self, *, queued: int) -> EngineStats:
        """`queued`: messages that nobody has looked at yet."""
        scheduler, counters = self._scheduler, self._counters
        return EngineStats(
            slots_total=self._config.slots,
            slots_busy=len(scheduler.running),
            waiting=len(scheduler.waiting) + queued,
            kv_cells_used=scheduler.cells_used,
            kv_cells_total=self.runner.cells,
            steps=counters.steps,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            completion_tokens=counters.completion_tokens,
            drafted_tokens=counters.drafted_tokens,
            accepted_tokens=counters.accepted_tokens,
        )

    # ------------------------------------------------------------ steps

    def step(self) -> None:
        """Evaluate what is due and choose the next tokens; nothing when there is nothing to do."""
        plan = self._scheduler.schedule(_now())
        if not plan:
            return
        if not plan.prefill:
            plan.drafted = self._speculator.draft(plan.decode, room=self._room_for_drafts(plan))
        sampled = plan.sampled()
        scored = any(seq.prompt_scores is not None for seq, _ in plan.prefill)
        rows = rows_of(plan.parts()) if scored else None
        started = _now()
        try:
            with self._masks.ahead(plan.decode):
                logits = self.runner.run(plan)
        except NoRoomError:
            plan.drop_drafts()
            self._make_room()
            return
        self._scheduler.commit(plan)
        self._counters.steps += 1
        if logits is None:
            return
        if rows is None:
            self._measure(plan, _now() - started)
        else:
            sampled, logits = self._score_prompts(rows, sampled, logits)
        if plan.drafted:
            self._take_drafted(sampled, self.sampler.choose_drafted(sampled, logits))
        else:
            self._take(sampled, self.sampler.choose(sampled, logits))

    def _room_for_drafts(self, plan: Plan) -> int:
        if self._scheduler.waiting:
            return 0
        return min(self._config.n_batch - len(plan.decode), self._config.most_drafted, self._scheduler.room)

    def _measure(self, plan: Plan, seconds: float) -> None:
        if not plan.prefill:
            self._costs.note(plan.tokens, seconds)
        elif self._config.prefill_chunk is None:
            self._pacer.note(plan.tokens, seconds)
            self._scheduler.chunk = self._pacer.chunk

    def _make_room(self) -> None:
        if not self._scheduler.make_room():
            raise WorkerError("the KV cache has no room for a single request's next step", code="out_of_memory")

    # ------------------------------------------------------------ tokens

    def _score_prompts(self, rows: Rows, sampled: list[Sequence], logits: Floats) -> tuple[list[Sequence], Floats]:
        """Returns who is still to be sampled, and their rows."""
        for seq, scores, part in rows.scored:
            scores.add(logits[part])
            if scores.done:
                seq.prompt_scores = None
                self.outputs.append(StepOutput(seq.id, prompt_logprobs=tuple(scores.made)))
                if seq.over is not None:
                    self._finish(seq, seq.over)
        left = [pair for pair in zip(sampled, rows.sampled, strict=True) if pair[0].state is not State.FINISHED]
        return [seq for seq, _ in left], logits[[row for _, row in left]] if left else logits[:0]

    def _take(self, sampled: list[Sequence], tokens: list[int]) -> None:
        now = _now()
        for seq, token in zip(sampled, tokens, strict=True):
            self._advance(seq, token, now)

    def _take_drafted(self, sampled: list[Sequence], chosen: list[list[int]]) -> None:
        now = _now()
        for seq, tokens in zip(sampled, chosen, strict=True):
            if seq.draft:
                self._settle(seq, len(tokens) - 1)
            for left in range(len(tokens) - 1, -1, -1):
                self._advance(seq, tokens[-1 - left], now, more=left > 0)
                if seq.state is State.FINISHED:
                    break

    def _settle(self, seq: Sequence, accepted: int) -> None:
        self._counters.drafted_tokens += len(seq.draft)
        self._counters.accepted_tokens += accepted
        self._speculator.note(seq, accepted)
        self._scheduler.settle(seq, accepted)

    def _advance(self, seq: Sequence, token: int, now: float, *, more: bool = False) -> None:
        """A new token. `more`: others were chosen with it, and its grammar stands behind those already."""
        if token == NO_TOKEN:
            self._finish(seq, FinishReason.ERROR, error=seq.error)
            return
        seq.add(token, now)
        self._counters.completion_tokens += 1
        if seq.leads:
            self._release_held(seq)
        if token in self._eog:
            self._finish(seq, FinishReason.STOP)
            return
        piece = seq.piece(token)
        if seq.scores is not None:
            seq.scores.accept(len(piece))
        text = seq.text.push(piece)
        if seq.text.stopped or (seq.masker is not None and seq.masker.is_done and not more):
            self._finish(seq, FinishReason.STOP, text)
        elif len(seq.tokens) >= seq.limit:
            self._finish(seq, FinishReason.LENGTH, text)
        elif text:
            logprobs = () if seq.scores is None else seq.scores.take()
            self.outputs.append(StepOutput(seq.id, text, seq.take_fresh(), index=seq.index, logprobs=logprobs))

    # ------------------------------------------------------------ beginnings and ends

    def _set_up(self, seq: Sequence) -> None:
        """Give a choice its sampler, masker and text, as far as an earlier attempt got. It may be over already."""
        request, vocab = seq.request, self._model.vocab
        seq.piece = vocab.renderer(request.special)
        try:
            seq.restore_text()
        except PendraError as exc:
            self._finish(seq, FinishReason.ERROR, error=exc)
            return
        over = seq.over_before_start(self._eog)
        if over is not None:
            seq.text.finish()  # an attempt that got to the end delivered what was held back, too
            if seq.prompt_scores is None:
                self._finish(seq, over)
                return
            seq.over = over
        seq.sampler = Sampler(seq.sampling, vocab, ctx_limit=self._ctx_limit)
        seq.sampler.restore(request.prompt, seq.resumed, self.sampler.candidates)
        seq.plain = seq.sampler.plain and seq.masker is None and seq.scores is None

    def _finish(self, seq: Sequence, reason: FinishReason, text: str = "", error: PendraError | None = None) -> None:
        """A choice is over; what its text still holds back is shown, unless nobody reads it."""
        if not self._groups[seq.id].drop_held(seq):
            self._scheduler.finish(seq)
        if reason not in _UNREAD:
            text += seq.text.finish()
        self._conclude(seq, reason, text=text, error=error)

    def _release_held(self, first: Sequence) -> None:
        """The prompt is evaluated, or never will be: the other choices may start."""
        first.leads = False
        self._scheduler.enqueue_first(self._groups[first.id].take_held())

    def _conclude(
        self, seq: Sequence, reason: FinishReason, *, text: str = "", error: PendraError | None = None
    ) -> None:
        """The last output of a sequence that has left the scheduler."""
        if seq.sampler is not None:
            seq.sampler.free()
        group = self._groups[seq.id]
        last = group.end(seq)
        if seq.leads:
            self._release_held(seq)
        logprobs = () if seq.scores is None or reason in _UNREAD else seq.scores.take(seq.text.cut)
        usage, timing = (group.usage(), group.timing()) if last else (None, None)
        self.outputs.append(
            StepOutput(seq.id, text, seq.take_fresh(), reason, usage, timing, error, seq.index, logprobs)
        )
        if usage is not None:
            self._counters.prompt_tokens += usage.prompt_tokens
            self._counters.cached_tokens += usage.cached_tokens
            del self._groups[seq.id]


_UNREAD = frozenset({FinishReason.CANCELLED, FinishReason.ERROR})


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
    drafted_tokens: int = 0
    accepted_tokens: int = 0
