"""Runs requests on an engine and waits for what comes out, with a deadline."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import PendraError
from worker.engine.api import FinishReason, GenerationRequest, SamplingParams, StepOutput, TokenLogprob
from worker.engine.config import EngineConfig
from worker.engine.engine import Engine
from worker.engine.model import LoadedModel

GREEDY = SamplingParams(temperature=0)
DEADLINE_S = 30


@dataclass
class Reply:
    """Everything an engine said about one request."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    pieces: list[StepOutput] = field(default_factory=list)

    choices: dict[int, Reply] = field(default_factory=dict)
    """Of a request with several, what was said about each."""

    def add(self, output: StepOutput) -> None:
        self.text += output.text
        self.tokens += output.tokens
        self.pieces.append(output)

    @property
    def over(self) -> bool:
        return bool(self.pieces) and self.last.usage is not None

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [entry for piece in self.pieces for entry in piece.logprobs]

    @property
    def last(self) -> StepOutput:
        return self.pieces[-1]

    @property
    def finish(self) -> FinishReason | None:
        return self.last.finish_reason

    @property
    def error(self) -> PendraError | None:
        return self.last.error


class Stop:
    """The engine stands still at the end of the first step after which `ready(reply)` holds, until the block ends."""

    def __init__(self, request_id: str, ready: Any) -> None:
        self.request_id = request_id
        self.ready = ready
        self._reached, self._on = threading.Event(), threading.Event()

    def here(self) -> None:
        """The engine's thread."""
        self._reached.set()
        self._on.wait(DEADLINE_S)

    def __enter__(self) -> None:
        assert self._reached.wait(DEADLINE_S), f"{self.request_id} did not get there in {DEADLINE_S} s"

    def __exit__(self, *_: object) -> None:
        self._on.set()


class Harness:
    """An engine and its outputs so far."""

    def __init__(self, model: LoadedModel, config: EngineConfig) -> None:
        self.model = model
        self.replies: dict[str, Reply] = {}
        self.steps: list[list[StepOutput]] = []
        self._changed = threading.Condition()
        self._stop: Stop | None = None
        self.engine = Engine(model, config, self._on_step)
        self.engine.start()

    def close(self) -> None:
        self.engine.close()

    def submit(self, request_id: str, prompt: str, **fields: Any) -> None:
        request = {"sampling": GREEDY, "max_tokens": 24, **fields}
        self.engine.submit(GenerationRequest(request_id, tuple(self.model.tokenize(prompt)), **request))

    def stop_at(self, request_id: str, ready: Any) -> Stop:
        """For `with`; asked for before the request is submitted, so that the engine cannot be past it."""
        self._stop = Stop(request_id, ready)
        return self._stop

    def run(self, prompt: str, **fields: Any) -> Reply:
        """One request from start to end."""
        request_id = f"run-{len(self.replies)}"
        self.submit(request_id, prompt, **fields)
        return self.wait(request_id)

    def wait(self, request_id: str) -> Reply:
        """The reply, once it is complete."""
        return self.wait_for(request_id, lambda reply: reply.over)

    def wait_for(self, request_id: str, ready: Any) -> Reply:
        """The reply, as soon as it has an output and `ready(reply)` holds."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._is(request_id, ready), timeout=DEADLINE_S)
        assert done, f"{request_id} did not get there in {DEADLINE_S} s"
        return self.replies[request_id]

    def _is(self, request_id: str, ready: Any) -> bool:
        return request_id in self.replies and ready(self.replies[request_id])

    def _on_step(self, outputs: list[StepOutput]) -> None:
        with self._changed:
            self.steps.append(outputs)
            for output in outputs:
                reply = self.replies.setdefault(output.request_id, Reply())
                assert not reply.over, "an output after the last one"
                reply.add(output)
                reply.choices.setdefault(output.index, Reply()).add(output)
            self._changed.notify_all()
        if self._stop is not None and self._is(self._stop.request_id, self._stop.ready):
            stop, self._stop = self._stop, None
            stop.here()
