"""The engine called in process: the same requests as `bench.client`, without anything around them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.load import Ask, Load, Sample, Series
from worker.engine.api import GenerationRequest, SamplingParams, StepOutput
from worker.engine.config import EngineConfig
from worker.engine.engine import Engine
from worker.engine.model import LoadedModel

CHATML = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What SmolLM2's own template makes of one user message."""


@dataclass
class _Running:
    """One request under way, and what its client asks next."""

    rest: Series
    started: float
    times: list[float] = field(default_factory=list)


class InProcess:
    """One engine. `run` blocks until everything is answered."""

    def __init__(self, model: Path, *, slots: int, ctx_per_seq: int, threads: int) -> None:
        self._model = LoadedModel(model)
        config = EngineConfig(slots=slots, ctx_per_seq=ctx_per_seq, threads=threads)
        self._engine = Engine(self._model, config, self._on_step)
        self._engine.start()
        self._running: dict[str, _Running] = {}
        self._samples: list[Sample] = []
        self._done = threading.Semaphore(0)
        self._count = 0

    def run(self, series: list[Series]) -> Load:
        self._samples = []
        started = time.perf_counter()
        for asks in series:
            self._ask(asks)
        for _ in series:
            self._done.acquire()
        return Load(len(series), time.perf_counter() - started, tuple(self._samples))

    def _ask(self, asks: Series) -> None:
        self._count += 1
        request = self._request(str(self._count), asks[0])
        self._running[request.request_id] = _Running(asks[1:], time.perf_counter())
        self._engine.submit(request)

    def _on_step(self, outputs: list[StepOutput]) -> None:
        now = time.perf_counter()
        for out in outputs:
            if out.text:
                self._running[out.request_id].times.append(now)
            if out.finish_reason is not None:
                assert out.usage is not None, out.error
                self._end(self._running.pop(out.request_id), now, out.usage.completion_tokens)

    def _end(self, running: _Running, now: float, tokens: int) -> None:
        times = running.times
        gaps = tuple(b - a for a, b in pairwise(times))
        self._samples.append(Sample(times[0] - running.started, now - running.started, tokens, gaps))
        if running.rest:
            self._ask(running.rest)
        else:
            self._done.release()

    def _request(self, request_id: str, ask: Ask) -> GenerationRequest:
        ids = self._model.vocab.tokenize(CHATML.format(ask.prompt), add_special=False, parse_special=True)
        return GenerationRequest(
            request_id,
            tuple(ids),
            sampling=SamplingParams(temperature=0),
            max_tokens=ask.tokens,
            min_tokens=ask.tokens,
            ignore_eos=True,
            cache_prompt=False,
        )

    def close(self) -> None:
        self._engine.close()
        self._model.close()
