"""A real worker process around the synthetic engine: `python -m bench.synthetic.worker`.

Celery, claims, leases, sealing and the publisher are the real ones; only the model is missing. The job's body says
`{"tokens": n}`; `SYNTHETIC_RATE` is the engine's steps a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from bench.synthetic.engine import SyntheticEngine, Token
from tasks.contract import Job, ModelInfo, Usage
from tasks.errors import JobCancelledError
from tasks.figures import LoadFigures
from tasks.settings import Settings
from worker.backends.base import CancelToken
from worker.engine.api import EngineStats
from worker.process import Process, run, slots_of
from worker.publisher import Publisher
from worker.reply import JobReply

MODEL = "synthetic:0b"
RATE = "SYNTHETIC_RATE"


def chunk(job: Job, token: Token) -> str:
    """The token as an OpenAI chunk, as long as a real one; its content is when it was made, and its number."""
    return (
        f'{{"id":"chatcmpl-{job.job_id}","object":"chat.completion.chunk","created":{job.created},"model":"{job.model}",'
        f'"choices":[{{"index":0,"delta":{{"content":"{token.made_ns} {token.number}"}},"finish_reason":null}}]}}'
    )


class SyntheticRuntime:
    """Takes the place of `worker.runtime.Runtime`: one model, always in memory."""

    def __init__(self, settings: Settings, slots: int, publisher: Publisher, changed: Callable[[], None]) -> None:
        del settings, slots, changed
        self._publisher = publisher
        self._replies: dict[str, JobReply] = {}
        self._engine = SyntheticEngine(float(os.environ.get(RATE, "20")), self._stepped)

    def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo(id=MODEL, loaded=True),)

    def preload(self, models: tuple[str, ...]) -> None: ...

    def withdraw(self, model_id: str, *, force: bool) -> int:
        del model_id, force
        return 0

    def restore(self, model_id: str) -> None: ...

    def serve(self, job: Job, reply: JobReply, cancel: CancelToken) -> None:
        """Like a real one it goes on after what an earlier attempt delivered, and keeps attempts apart: an older one
        may still be leaving."""
        name = f"{job.job_id}:{job.attempt}"
        delivered = len(job.resume.token_ids) if job.resume else 0
        left = int(job.body["tokens"]) - delivered
        if left <= 0:  # only its end was not delivered
            reply.finish(usage=_usage(delivered))
            return
        self._replies[name] = reply
        self._engine.submit(name, left, first=delivered)
        cancel.on_cancel(lambda: self._cancelled(name, reply))
        reply.wait()
        del self._replies[name]

    def stats(self) -> dict[str, EngineStats]:
        return {}

    def loads(self) -> tuple[LoadFigures, ...]:
        return ()

    def close(self) -> None:
        self._engine.close()

    def _cancelled(self, name: str, reply: JobReply) -> None:
        self._engine.cancel(name)
        reply.fail(JobCancelledError("cancelled"))

    def _stepped(self, tokens: list[Token]) -> None:
        """On the engine's thread, which pays for one hand-over; the publisher's thread does the rest."""
        self._publisher.step(lambda: self._publish(tokens))

    def _publish(self, tokens: list[Token]) -> None:
        for token in tokens:
            reply = self._replies.get(token.reply_id)
            if reply is None:
                continue
            reply.chunk(chunk(reply.job, token), (token.number,))
            if token.is_last:
                reply.finish(usage=_usage(token.number + 1))


def _usage(tokens: int) -> Usage:
    return Usage(prompt_tokens=1, completion_tokens=tokens)


def build(settings: Settings, asked_slots: int | None) -> Process:
    return Process(settings, slots_of(settings, asked_slots), SyntheticRuntime)


def main() -> int:
    from tasks import app  # noqa: PLC0415  # reads the settings

    return run(app, build=build)


if __name__ == "__main__":
    # run as a script this file is `__main__`; the runtime must be the one the process was built with
    from bench.synthetic.worker import main as entry

    sys.exit(entry())
