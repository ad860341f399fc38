"""Hand-written stand-ins around a backend: a reply that records, a publisher that runs at once, an engine by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Unpack

from tasks.contract import Chunk, Event, Failed, Finished, Job, Progress, Timing, Usage
from tasks.errors import PendraError
from tests.fakes.waiting import until
from worker.backends.base import Ending
from worker.engine.api import EngineStats, FinishReason, GenerationRequest, StepOutput

HI = [{"role": "user", "content": "hi"}]


def chat(*, stream: bool = True, job_id: str = "j1", model: str = "tiny", **fields: Any) -> Job:
    """A chat job; `resume`, `attempt` and `kind` are the job's, all else the body's."""
    own = {name: fields.pop(name) for name in ("resume", "attempt", "kind") if name in fields}
    body = {"model": model, "messages": HI, **fields}
    return Job(job_id=job_id, model=model, stream=stream, body=body, created=1, bridge_id="b", **own)


class RecordingReply:
    """Keeps the events that a job's reply would publish."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.events: list[Event] = []
        self.errors: list[PendraError] = []

    @property
    def closed(self) -> bool:
        return any(isinstance(event, Finished | Failed) for event in self.events)

    @property
    def chunks(self) -> list[Chunk]:
        return [event for event in self.events if isinstance(event, Chunk)]

    @property
    def finished(self) -> Finished:
        (event,) = (event for event in self.events if isinstance(event, Finished))
        return event

    def progress(self, stage: str, fraction: float = 0.0) -> bool:
        return self._add(Progress, stage=stage, fraction=fraction)

    def chunk(self, data: str, tokens: tuple[int, ...] = ()) -> bool:
        return self._add(Chunk, data=data, tokens=tokens)

    def finish(self, data: str | None = None, **ending: Unpack[Ending]) -> bool:
        return self._add(Finished, data=data, **ending)

    def fail(self, error: PendraError) -> bool:
        self.errors.append(error)
        return self._add(Failed, code=error.code, message=error.message, param=error.param)

    def _add(self, kind: type[Any], **fields: Any) -> bool:
        if self.closed:
            return False
        self.events.append(kind(job_id=self._job.job_id, attempt=self._job.attempt, seq=len(self.events), **fields))
        return True


class DirectPublisher:
    """Runs steps where they are posted, and counts them."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, call: Callable[[], None]) -> None:
        self.steps += 1
        call()


@dataclass
class HandVocab:
    bos: int = 1
    adds_bos: bool = True
    eog: frozenset[int] = frozenset({2})
    handle: None = None
    fill: None = None

    def renderer(self, special: object) -> Callable[[int], bytes]:
        return lambda token: chr(token).encode()


@dataclass
class HandModel:
    """Every character is its code as a token; the name `<s>` is token 1."""

    chat_template: str | None = "{{ messages[-1].content }}"
    vocab: HandVocab = field(default_factory=HandVocab)
    bos_text: str = "<s>"
    eos_text: str = "</s>"
    metadata: dict[str, str] = field(default_factory=dict)
    closed: int = 0

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        assert not add_special
        assert parse_special
        begins = [1] if text.startswith("<s>") else []
        return begins + [ord(char) for char in text.removeprefix("<s>")]

    def close(self) -> None:
        self.closed += 1


class HandEngine:
    """Does nothing by itself: the test reads `requests` and says what comes out."""

    def __init__(self, on_step: Callable[[list[StepOutput]], None], *, ctx_limit: int = 100) -> None:
        self.on_step = on_step
        self.ctx_limit = ctx_limit
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[str] = []
        self.started = 0
        self.closed = 0

    def start(self) -> None:
        self.started += 1

    def submit(self, request: GenerationRequest) -> None:
        self.requests.append(request)

    def cancel(self, request_id: str) -> None:
        """As the engine does: whoever still runs gets a last output."""
        self.cancelled.append(request_id)
        self.put(StepOutput(request_id, finish_reason=FinishReason.CANCELLED, usage=Usage(), timing=Timing()))

    def close(self) -> None:
        self.closed += 1

    def stats(self) -> EngineStats:
        return EngineStats(4, len(self.requests), 0, 0, 0, 0, 0, 0, 0)

    def put(self, *outputs: StepOutput) -> None:
        self.on_step(list(outputs))

    def say(self, request_id: str, *words: str) -> None:
        """One step a word, then a good end."""
        for number, word in enumerate(words, 1):
            self.put(StepOutput(request_id, word, (number,)))
        usage = Usage(prompt_tokens=2, completion_tokens=len(words))
        self.put(StepOutput(request_id, "", (), FinishReason.STOP, usage, Timing(ttft_ms=1.0)))


class Served(threading.Thread):
    """A job being served on a thread of its own; `join` gives what was raised, if anything."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as exc:  # noqa: BLE001  # the test looks at it
            self.raised = exc

    def done(self, timeout_s: float = 20.0) -> BaseException | None:
        until(lambda: not self.is_alive(), timeout_s)
        return self.raised
