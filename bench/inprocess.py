"""The engine called in process: the same requests as `bench.client`, without anything around them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from bench.client import Load, Sample
from worker.engine.api import GenerationRequest, SamplingParams, StepOutput
from worker.engine.config import EngineConfig
from worker.engine.engine import Engine
from worker.engine.model import LoadedModel

CHATML = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What SmolLM2's own template makes of one user message."""


class InProcess:
    """One engine. `run` blocks until all prompts are answered."""

    def __init__(self, model: Path, *, slots: int, ctx_per_seq: int, threads: int) -> None:
        self._model = LoadedModel(model)
        config = EngineConfig(slots=slots, ctx_per_seq=ctx_per_seq, threads=threads)
        self._engine = Engine(self._model, config, self._on_step)
        self._engine.start()
        self._first: dict[str, float] = {}
        self._last: dict[str, tuple[float, int]] = {}
        self._done = threading.Semaphore(0)
        self._round = 0

    def _on_step(self, outputs: list[StepOutput]) -> None:
        now = time.perf_counter()
        for out in outputs:
            self._first.setdefault(out.request_id, now)
            if out.finish_reason is not None:
                assert out.usage is not None, out.error
                self._last[out.request_id] = now, out.usage.completion_tokens
                self._done.release()

    def run(self, prompts: list[str], tokens: int) -> Load:
        self._round += 1
        ids = [f"{self._round}-{n}" for n in range(len(prompts))]
        started = time.perf_counter()
        for request_id, prompt in zip(ids, prompts, strict=True):
            self._engine.submit(self._request(request_id, prompt, tokens))
        for _ in ids:
            self._done.acquire()
        seconds = time.perf_counter() - started
        samples = [Sample(self._first[i] - started, self._last[i][0] - started, self._last[i][1]) for i in ids]
        return Load(len(ids), seconds, tuple(samples))

    def _request(self, request_id: str, prompt: str, tokens: int) -> GenerationRequest:
        ids = self._model.vocab.tokenize(CHATML.format(prompt), add_special=False, parse_special=True)
        return GenerationRequest(
            request_id,
            tuple(ids),
            sampling=SamplingParams(temperature=0),
            max_tokens=tokens,
            min_tokens=tokens,
            ignore_eos=True,
            cache_prompt=False,
        )

    def close(self) -> None:
        self._engine.close()
        self._model.close()
