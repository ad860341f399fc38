"""Sleep that a signal or another thread ends at once: the self-pipe, with Python's `signal.set_wakeup_fd`."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Callable, Collection, Iterator


class Wake:
    """`wait` on the main thread; `set` from anywhere, signal handlers included."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # full: it will wake anyway; closed: nobody sleeps
            self._writer.send(b"\0")

    def wait(self, timeout_s: float) -> None:
        """Returns after `timeout_s`, or as soon as somebody called `set` or a signal came."""
        if select.select([self._reader], [], [], timeout_s)[0]:
            with contextlib.suppress(BlockingIOError):
                while self._reader.recv(4096):
                    pass

    @contextlib.contextmanager
    def signals(self, handled: Collection[signal.Signals], handler: Callable[[int], None]) -> Iterator[None]:
        """Within: `handled` signals call `handler`, and they and SIGCHLD end a `wait`. Main thread only."""
        before = {signum: signal.getsignal(signum) for signum in {*handled, signal.SIGCHLD}}
        woken_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        try:
            for signum in handled:
                signal.signal(signum, lambda received, _frame: handler(received))
            signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for signum, old in before.items():
                signal.signal(signum, old or signal.SIG_DFL)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
