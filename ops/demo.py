"""The demo: a stack in the foreground, one question asked from a second thread, its answer on the terminal."""

from __future__ import annotations

import sys
import threading

import click

from ops.answer import Answer, AnswerError, ask
from ops.foreground import Foreground, log_events
from ops.home_lock import HomeLock
from ops.install_step import install_missing
from ops.launch import Launch, free_address, whole_stack
from ops.narrator import say
from ops.stack import Serving
from tasks.errors import PendraError
from tasks.settings import Settings

START_LIMIT_S = 240.0
_SLOTS = 2  # one answer: no memory for more


class DemoError(PendraError):
    default_code = "demo_failed"


def run(settings: Settings, model: str, question: str) -> None:
    """Returns when the answer was shown and everything has stopped. Raises PendraError naming what failed."""
    with HomeLock(settings.home, "pendra demo"):
        log_events(settings)
        address = free_address("127.0.0.1", 0)
        install_missing(settings, (model,))
        serving = Serving(slots=_SLOTS, models=(model,))
        launch = whole_stack(settings, address, serving, workers=1)
        say("starting the stack")
        answer = Demo(launch, model, question).run()
    say()
    for line in timings(answer):
        say(line)


class Demo:
    """One question to one launch. The stack runs on the calling thread, the question on another."""

    def __init__(self, launch: Launch, model: str, question: str) -> None:
        self._launch = launch
        messages = [{"role": "user", "content": question}]
        self._body = {"model": model, "messages": messages, "max_tokens": 200, "temperature": 0}
        self._question = question
        self._answer: Answer | None = None
        self._error: PendraError | None = None
        self._asker = threading.Thread(target=self._ask, name="demo", daemon=True)
        self._limit = threading.Timer(START_LIMIT_S, self._too_slow)
        self._stack = Foreground(launch, on_ready=self._ready, greets=False)

    def run(self) -> Answer:
        self._limit.daemon = True
        self._limit.start()
        try:
            self._stack.run()
        finally:
            self._limit.cancel()
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise DemoError("stopped before the answer was complete")
        return self._answer

    def _ready(self) -> None:
        self._limit.cancel()
        self._asker.start()

    def _too_slow(self) -> None:
        logs = self._launch.home / "logs"
        self._error = DemoError(f"the stack was not ready within {START_LIMIT_S:.0f} s; the logs are in {logs}")
        self._stack.stop()

    def _ask(self) -> None:
        say(f"\n> {self._question}\n", bold=True)
        try:
            self._answer = ask(str(self._launch.url), str(self._launch.api_key), self._body, _show)
            if not self._answer.words.strip():
                raise AnswerError("the answer was empty")
        except PendraError as exc:
            self._error = exc
        finally:
            say("\n")
            self._stack.stop()


def timings(answer: Answer) -> list[str]:
    """What the trailer says of the answer, a line per fact. Pure."""
    facts = [
        ("time to first token", answer.timing.get("ttft_ms"), "{:.0f} ms"),
        ("speed", answer.timing.get("tokens_per_second"), "{:.1f} tokens/s"),
        ("waited in the queue", answer.timing.get("queue_wait_ms"), "{:.1f} ms"),
        ("tokens", answer.usage.get("completion_tokens"), "{}"),
        ("worker", answer.worker.get("id"), "{}"),
    ]
    return [
        f"{name:<20} {form.format(value) if value is not None else 'not reported'}" for name, value, form in facts
    ]


def _show(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()
