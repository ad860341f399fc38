"""The process that templates run in: requests on stdin, replies on stdout, until stdin ends.

It knows no key and opens nothing: its environment is empty but for what Python needs, and after the start it may
open no file and write none, is bounded in memory, and leaves no core. A request that takes too long is ended by the
kernel's timer, which no code in it can catch.
"""

from __future__ import annotations

import signal
import sys
from collections import OrderedDict
from typing import Any, BinaryIO

from worker.chat.render_wire import Outcome, read, write
from worker.chat.sandbox import FailedError, InvalidError, Program, RefusedError, TooLongError

MEMORY_BYTES = 1024 * 1024 * 1024
MAX_PROGRAMS = 64
_WARM_UP = (
    "{{ [{'a': 1}] | map(attribute='a') | join(',') }}{{ x | tojson }}{{ strftime_now('%c %Z') }}",
    "{{ raise_exception('x') }}",
    "{{ x.y.z }}",
    "{% for %}",
)


class Programs:
    """The templates seen last, compiled, by their source."""

    def __init__(self) -> None:
        self._programs: OrderedDict[str, Program] = OrderedDict()

    def get(self, source: str) -> Program:
        """Raises InvalidError."""
        if source not in self._programs:
            self._programs[source] = Program(source)
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(source)
        return self._programs[source]


def answer(programs: Programs, request: dict[str, Any]) -> dict[str, Any]:
    try:
        program = programs.get(request["source"])
        if "variables" not in request:
            return {"outcome": Outcome.DONE, "reads_tools": program.reads_tools}
        return {"outcome": Outcome.DONE, "text": program.render(request["variables"], request["max_chars"])}
    except InvalidError as exc:
        return {"outcome": Outcome.INVALID, "text": str(exc)}
    except RefusedError as exc:
        return {"outcome": Outcome.REFUSED, "text": str(exc)}
    except TooLongError:
        return {"outcome": Outcome.TOO_LONG}
    except FailedError as exc:
        return {"outcome": Outcome.FAILED, "text": str(exc)}
    except (MemoryError, RecursionError):
        return {"outcome": Outcome.OVERTIME}


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    programs = Programs()
    while (request := read(requests)) is not None:
        _timer(request["seconds"])
        reply = answer(programs, request)
        _timer(0)
        write(replies, reply)


def _timer(seconds: float) -> None:
    """The default action of SIGALRM ends the process, whatever it is doing. 0 stops the timer."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def confine() -> None:
    """Give up what no template needs. What Python and Jinja load late is loaded before, by the same ways."""
    programs = Programs()
    for source in _WARM_UP:
        answer(programs, {"source": source, "variables": {"x": {}}, "max_chars": 1000})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes our stdin
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  # POSIX only

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    if sys.platform == "linux":  # elsewhere it counts what the system maps for everybody
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    confine()
    serve(sys.stdin.buffer, sys.stdout.buffer)
