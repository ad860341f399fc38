"""Renders chat templates in a process of their own, so that time and memory of somebody else's program have an end.

No limit inside a thread could stop a template that multiplies a number for an hour: Python cannot interrupt one
operation. The kernel can end a process. One is shared by all models of a worker; rendering takes well below a
millisecond, so requests take turns. A template that was too much several times is not tried again.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.chat.render_wire import Outcome, read, write

__all__ = ["RENDER_S", "Outcome", "Rendered", "Renderer", "prepare", "render"]

RENDER_S = 5.0
MAX_STRIKES = 3
_KEPT_ENV = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """`text`: the prompt when DONE, else words without content."""

    outcome: Outcome
    text: str = field(default="", repr=False)
    reads_tools: bool = False


class Renderer:
    """Any thread may call; calls take turns. The process starts with the first one, and anew after it was ended."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._strikes: Counter[str] = Counter()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, source: str, request: Mapping[str, Any]) -> Rendered:
        """Blocks for the time limit at most, and for those who came before."""
        name = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        with self._lock:
            if self._strikes[name] >= MAX_STRIKES:
                return Rendered(Outcome.OVERTIME)
            reply = self._exchange({"source": source, "seconds": self._seconds or RENDER_S, **request})
            if reply.outcome is Outcome.OVERTIME:
                self._strikes[name] += 1
            return reply

    def close(self) -> None:
        with self._lock:
            self._end()

    def _exchange(self, request: Mapping[str, Any]) -> Rendered:
        process = self._process or self._start()
        try:
            write(_pipe(process.stdin), request)
            reply = read(_pipe(process.stdout))
        except OSError:
            reply = None
        if reply is None:
            self._end()
            return Rendered(Outcome.OVERTIME)
        return Rendered(Outcome(reply["outcome"]), reply.get("text", ""), bool(reply.get("reads_tools")))

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.chat.render_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in _KEPT_ENV},
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            _shut(pipe)
        process.wait(_CLOSE_S)


def _pipe(stream: Any) -> Any:
    if stream is None:
        raise OSError("no pipe")
    return stream


def _shut(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:  # what was still buffered has no reader
        return


_shared = Renderer()
atexit.register(_shared.close)


def prepare(source: str) -> Rendered:
    """Is it a template, and does it read tools?"""
    return _shared.ask(source, {})


def render(source: str, variables: Mapping[str, Any], max_chars: int) -> Rendered:
    return _shared.ask(source, {"variables": variables, "max_chars": max_chars})
