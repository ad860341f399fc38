"""Single keys from a terminal, without Enter. Where that cannot be done (no terminal, no POSIX) none ever comes."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from types import TracebackType
from typing import Any, Self


class Keys:
    """A context manager: the terminal is as it was afterwards. Ctrl-C still interrupts."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd`: of the terminal [default: stdin's]."""
        self._fd = fd
        self._before: Any = None

    def __enter__(self) -> Self:
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios
            import tty

            fd = sys.stdin.fileno() if self._fd is None else self._fd
            with contextlib.suppress(termios.error):  # no terminal
                self._before = termios.tcgetattr(fd)
                tty.setcbreak(fd)
                self._fd = fd
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None and self._fd is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def wait(self, seconds: float) -> str:
        """The next key, or "" after so many seconds. Blocking."""
        if self._before is None or self._fd is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        return os.read(self._fd, 1).decode("ascii", "ignore") if ready else ""
