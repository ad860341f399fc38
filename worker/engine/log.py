"""llama.cpp's messages go to Python logging: errors and warnings once each, the rest only for debugging.

llama.cpp logs a lot (hundreds of lines a model) and keeps the pointer it is given, so the callback lives as long as
the module: without that reference the process dies at the next message.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_cpp import llama_cpp as lib

_log = logging.getLogger("pendra.llama")

_DEBUG, _INFO, _WARN, _ERROR, _CONT = 1, 2, 3, 4, 5  # ggml_log_level
_REPEATS = 3
_KEPT = 200

_seen: dict[str, int] = {}
_capture = threading.local()
_callback: Any = None


def install() -> None:
    """Take over llama.cpp's log. Any thread, any number of times; the first call counts."""
    global _callback  # noqa: PLW0603  # llama.cpp has one log per process
    if _callback is None:
        _callback = lib.llama_log_callback(_on_message)
        lib.llama_log_set(_callback, ctypes.c_void_p(0))


@contextmanager
def captured() -> Iterator[list[str]]:
    """Collects what llama.cpp complains about on this thread, to tell why a call failed."""
    lines: list[str] = []
    _capture.lines = lines
    try:
        yield lines
    finally:
        _capture.lines = None


def _on_message(level: int, text: bytes | None, _user_data: Any) -> None:
    if level in (_DEBUG, _CONT) or not text:
        return
    if level == _INFO:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s", text.decode("utf-8", "replace").rstrip())
        return
    _complain(level, text.decode("utf-8", "replace").strip())


def _complain(level: int, line: str) -> None:
    lines: list[str] | None = getattr(_capture, "lines", None)
    if lines is not None and level >= _ERROR:
        lines.append(line)
    count = _seen.get(line, 0)
    if count < _REPEATS and len(_seen) < _KEPT:
        _seen[line] = count + 1
        _log.log(logging.ERROR if level >= _ERROR else logging.INFO, "%s", line)
