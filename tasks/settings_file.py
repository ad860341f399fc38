"""`config.yaml` as text: read it, change one key and leave the rest alone, write it whole or not at all.

The file may hold the private key in the clear, so it is always written with mode 0600. A change keeps comments,
order and keys this version does not know: the new value is spliced into the text where the old one stood. Only a
file in a shape where that does not work (one flow mapping, anchors) is written anew.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tasks import file_lock
from tasks.errors import ConfigError

NAME = "config.yaml"
_LOCK_TIMEOUT_S = 10.0

Values = dict[str, Any]


def path_in(home: Path) -> Path:
    return home / NAME


def read(path: Path) -> Values:
    """What the file says, `{}` when there is none. Raises ConfigError, with the line, for a file that is not YAML."""
    return _parse(_text(path), path)


def is_open_to_others(path: Path) -> bool:
    """Whether people other than the owner may read or write the file (never on Windows, which has no modes)."""
    if sys.platform == "win32":
        return False
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def change(path: Path, key: str, value: Any) -> None:
    """Set `key` (None: remove it), atomically and with mode 0600; other processes may do the same meanwhile.

    Raises ConfigError when the file is not YAML or cannot be written.
    """

    def edit(values: Values) -> tuple[str, Any]:  # noqa: ARG001  # the value does not depend on what is there
        return key, value

    _locked_edit(path, edit)


def ensure(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """The value of `key`, made and written at the first call. Of several processes at once, one makes it."""
    value: list[Any] = []

    def edit(values: Values) -> tuple[str, Any] | None:
        value.append(values.get(key) or make())
        return None if values.get(key) else (key, value[0])

    _locked_edit(path, edit)
    return value[0]


def write_private(path: Path, text: str) -> None:
    """Write a whole file at once: mode 0600, on disk before it takes the old one's place. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def spliced(text: str, key: str, value: Any) -> str:
    """`text` with `key` set to `value` (None: without it). Pure. `text` must be a YAML mapping or empty."""
    wanted = dict(yaml.safe_load(text) or {})
    wanted.pop(key, None) if value is None else wanted.update({key: value})
    edited = _splice(text, key, value)
    with contextlib.suppress(yaml.YAMLError):
        if (yaml.safe_load(edited) or {}) == wanted:
            return edited
    return _dump(wanted)


def _splice(text: str, key: str, value: Any) -> str:
    line = "" if value is None else _dump({key: value})
    for name, node in _top_level(text):
        if name.value == key:
            end = node.end_mark.index
            rest = text[end:] if text[end:].startswith("\n") or not line else text[end:].lstrip(" ")
            return (
                text[: name.start_mark.index] + line.rstrip("\n") + _newline(rest)
                if line
                else (text[: name.start_mark.index] + rest.removeprefix("\n"))
            )
    gap = "" if not text or text.endswith("\n") else "\n"
    return text + gap + line


def _newline(rest: str) -> str:
    """What follows a value: a comment stays on its line, anything else starts on the next."""
    if not rest or rest.startswith("\n"):
        return rest or "\n"
    return f"  {rest}" if rest.startswith("#") else f"\n{rest}"


def _top_level(text: str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode) and not root.flow_style:
        yield from root.value


def _dump(values: Values) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""


def _locked_edit(path: Path, edit: Callable[[Values], tuple[str, Any] | None]) -> None:
    try:
        with file_lock.held(path.with_name(f".{path.name}.lock"), _LOCK_TIMEOUT_S):
            text = _text(path)
            change = edit(_parse(text, path))
            if change is not None:
                write_private(path, spliced(text, *change))
    except TimeoutError:
        raise ConfigError(f"{path} is locked by another process that does not let go") from None
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}; make its folder writable") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from None


def _parse(text: str, path: Path) -> Values:
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:  # its own text quotes the line, which may hold a key
        mark = exc.problem_mark or exc.context_mark
        at = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{at} is not YAML: {exc.problem or exc.context}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path} is not YAML: it holds characters that YAML does not allow") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a list of `key: value` lines; it holds a {type(values).__name__}")
    return {str(key): value for key, value in values.items()}
