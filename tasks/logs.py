"""Logs are events: a stable `action`, then fields. Text for people, or one JSON object a line for machines.

`event` is the one way in. A field whose name says that it holds a prompt, an answer or a secret is dropped there;
`configure` puts the same rule on everything else that is logged in the process, exceptions included: of an exception
that is not a `PendraError` only the type and the place are written, because its text may quote what it choked on.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from logging.handlers import WatchedFileHandler
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretBytes, SecretStr

from tasks.errors import PendraError

if TYPE_CHECKING:
    from tasks.settings import Settings

# Names of fields that hold (or may hold) content or secrets. Numbers under these names are counts and may pass.
_CONTENT = {
    "prompt",
    "prompts",
    "messages",
    "content",
    "body",
    "text",
    "completion",
    "data",
    "payload",
    "args",
    "kwargs",
}
_SECRETS = {
    "authorization",
    "password",
    "secret",
    "seed",
    "credential",
    "credentials",
    "cookie",
    "key",
    "token",
    "tokens",
}
_SECRET_ENDINGS = ("_key", "_token", "_secret", "_password", "_seed", "_text", "_body", "_prompt")
_DROPPED = "[redacted]"
_LONGEST = 500
_FRAMES = 12
# They log every request or every message at INFO; their warnings stay.
_NOISY = ("httpx", "httpcore", "urllib3", "websockets", "huggingface_hub", "filelock", "asyncio", "kombu", "amqp",
          "celery", "uvicorn", "uvicorn.access")  # fmt: skip
# Their warnings are what a client sent wrong, which its answer says: it could fill the log with them.
_MUTE = ("python_multipart",)


def event(logger: logging.Logger, level: int, action: str, /, **fields: Any) -> None:
    """Log that `action` happened. Any thread; never raises for a field's sake. Cheap when the level is off.

    `action` is stable (`area.what`), `fields` are ids, counts, sizes and durations: never content.
    """
    if logger.isEnabledFor(level):
        clean = {name: _clean(name, value) for name, value in fields.items()}
        logger.log(level, _line(action, clean), extra={"action": action, "fields": clean}, stacklevel=2)


def where(exc: BaseException) -> str:
    """The place an exception was raised, `file.py:line function`: what may be logged of an unknown one."""
    frames = _frames(exc)
    return frames[-1] if frames else "?"


def configure(settings: Settings, role: str) -> None:
    """Send this process's logs to `settings.log_file` or stderr. Replaces what was configured before.

    `role` (bridge, worker, …) stands in every line of the JSON form. Raises ConfigError when the file cannot be
    opened.
    """
    handler = _handler(settings.log_file)
    handler.addFilter(Redact())
    handler.setFormatter(JsonLines(role) if settings.log_format == "json" else Text())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("pendra").setLevel(settings.log_level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


class Redact(logging.Filter):
    """The second line: cleans records that did not come through `event` (libraries, celery, asyncio)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "action"):
            record.args = _clean_args(record.args)
        return True


class Text(logging.Formatter):
    """`2026-11-21 10:00:00.123 INFO pendra.worker engine.loaded model=… ms=812`, exceptions below it."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        line = f"{stamp}.{record.msecs:03.0f} {record.levelname} {record.name} {_message(record)}"
        return "\n".join([line, *(f"    {part}" for part in _exception(record))])


class JsonLines(logging.Formatter):
    """One JSON object a line: `ts`, `level`, `logger`, `role`, `pid`, `action`, then the event's fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "role": self._role,
            "pid": record.process,
            "action": getattr(record, "action", "log"),
        }
        if row["action"] == "log":
            row["message"] = _message(record)
        for name, value in getattr(record, "fields", {}).items():
            row[f"field_{name}" if name in row else name] = value
        if trace := _exception(record):
            row["exception"] = trace
        return json.dumps(row, ensure_ascii=False, default=str)


def _handler(path: Path | None) -> logging.Handler:
    if path is None:
        return logging.StreamHandler(sys.stderr)
    from tasks.errors import ConfigError  # noqa: PLC0415  # only here

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return WatchedFileHandler(path, encoding="utf-8")  # goes on in a new file after logrotate
    except OSError as exc:
        raise ConfigError(f"PENDRA_LOG_FILE is {str(path)!r}, which cannot be written: {exc.strerror}") from None


def _clean(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _is_sensitive(name):
        return _DROPPED
    return _plain(value)


def _is_sensitive(name: str) -> bool:
    low = name.lower()
    return low in _CONTENT or low in _SECRETS or low.endswith(_SECRET_ENDINGS)


def _plain(value: Any) -> Any:
    """A value as it may stand in a log: short text, numbers, and lists and mappings of them."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (SecretStr, SecretBytes)):
        return _DROPPED
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return value.message if isinstance(value, PendraError) else type(value).__name__
    if isinstance(value, BaseModel):
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(k): _clean(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _clean_args(args: Any) -> Any:
    """Arguments of a library's record; numbers stay numbers, so that `%d` still works."""
    if isinstance(args, Mapping):
        return {k: _clean(str(k), v) for k, v in args.items()}
    return tuple(_plain(arg) for arg in args) if isinstance(args, tuple) else args


def _line(action: str, fields: Mapping[str, Any]) -> str:
    return " ".join([action, *(f"{name}={_shown(value)}" for name, value in fields.items())])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        plain = value.isprintable() and value and not set(value) & set(' "=')
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, default=str)


def _message(record: logging.LogRecord) -> str:
    """One line, whatever the record holds: a log line must not forge a second one."""
    return record.getMessage().replace("\r", "\\r").replace("\n", "\\n")


def _exception(record: logging.LogRecord) -> list[str]:
    """The exception's chain as type and place; a PendraError's words too, since those are written for people."""
    exc = record.exc_info[1] if record.exc_info else None
    lines: list[str] = []
    while exc is not None and len(lines) < 4 * _FRAMES:
        words = f"({exc.code}): {exc.message}" if isinstance(exc, PendraError) else ""
        lines += [f"{type(exc).__name__}{words}", *(f"  at {frame}" for frame in _frames(exc))]
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return lines


def _frames(exc: BaseException) -> list[str]:
    frames = [
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in walk_tb(exc.__traceback__)
    ]
    return frames[-_FRAMES:]
