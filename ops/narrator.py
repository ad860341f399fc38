"""Tells the person in front of `pendra up` what happens: one plain line per step, colours on a terminal only."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable

import click

from ops.launch import Launch
from ops.probes import Health, health
from worker.children import Change, State, describe_exit

_REMIND_S = 15.0  # say what we wait for, so that a slow start does not look like a hang
_ASK_S = 0.25  # how often the control plane is asked while we wait
_NO_MODEL_S = 3.0  # how long every part is up before we say that no model is there


def say(line: str = "", *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> None:
    """One line for the person; colours only on a terminal that wants them (no-color.org)."""
    click.secho(line, color=False if os.environ.get("NO_COLOR") else None, fg=fg, bold=bold, dim=dim)


class Narrator:
    """`changed` and `tick` belong to the supervisor's callbacks; `on_ready` is called once, when answers can come."""

    def __init__(
        self,
        launch: Launch,
        on_ready: Callable[[], None] = lambda: None,
        *,
        greets: bool = True,
        ask: Callable[[str], Health | None] = health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launch = launch
        self._on_ready = on_ready
        self._greets = greets
        self._ask = ask
        self._clock = clock
        self._states: dict[str, State] = {spec.name: State.WAITING for spec in launch.specs}
        self._began = self._reminded = clock()
        self._asked = self._all_up_since = 0.0
        self._hinted = self._was_ready = self._stopping = False

    def changed(self, change: Change) -> None:
        first_time = not self._was_ready
        self._states[change.spec.name] = change.state
        name = change.spec.name.ljust(14)
        if change.state is State.READY:
            took = f"{self._clock() - self._began:.1f} s" if first_time else "again"
            say(f"  {name} ready    {took}  process {change.pid}", fg="green")
        elif change.state is State.BACKOFF:
            again = f"; starts again in {change.delay_s:g} s" if change.delay_s is not None else ""
            say(f"  {name} {describe_exit(change.exit_code)}{again}; log: {change.spec.log_path}", fg="red")
        elif change.state is State.STOPPING and not self._stopping:
            self._stopping = True
            say("stopping; running answers get a moment to end (once more: at once)")

    def tick(self) -> None:
        now = self._clock()
        if self._was_ready or self._stopping:
            return
        waiting = [spec for spec in self._launch.specs if self._states[spec.name] is not State.READY]
        if not waiting and now - self._asked >= _ASK_S:
            self._asked = now
            self._all_up_since = self._all_up_since or now
            self._look(now)
        if not self._was_ready and now - self._reminded >= _REMIND_S:
            self._reminded = now
            whom = ", ".join(f"{spec.name} (log: {spec.log_path})" for spec in waiting) or "a model to be served"
            say(f"  … {now - self._began:.0f} s: waiting for {whom}", dim=True)

    def _look(self, now: float) -> None:
        if self._launch.url is None:
            self._ready()
            return
        seen = self._ask(self._launch.url)
        if seen and seen.status == "ready" and seen.workers >= self._launch.workers:
            self._ready(seen.models)
        elif not self._hinted and not self._launch.models and now - self._all_up_since >= _NO_MODEL_S:
            self._hinted = True
            say(f"listening on {self._launch.url}, but no model is installed yet:", fg="yellow")
            say("  pendra models install smollm2:135m")

    def _ready(self, models: tuple[str, ...] = ()) -> None:
        self._was_ready = True
        if self._launch.url is not None:
            say(f"ready: {self._launch.url}", bold=True)
            for line in greeting(self._launch, models) if self._greets else ():
                say(line)
        self._on_ready()


def greeting(launch: Launch, models: tuple[str, ...]) -> list[str]:
    """The key, and a line to paste. Pure."""
    model = next(iter(launch.models or models), "smollm2:135m")
    return [
        f"key:   {launch.api_key}  (kept in {launch.home / 'api-key'})",
        f"model: {', '.join(models)}",
        f"try:   {curl(launch, model)}",
        "Ctrl-C stops everything.",
    ]


def curl(launch: Launch, model: str) -> str:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}
    key = f'"Authorization: Bearer $(cat {shlex.quote(str(launch.home / "api-key"))})"'
    kind = "'Content-Type: application/json'"
    return f"curl -N {launch.url}/v1/chat/completions -H {key} -H {kind} -d {shlex.quote(json.dumps(body))}"
