"""`config.yaml` as text: read it, change one key and leave the rest alone, write it whole or not at all.

The file may hold the private key in the clear, so it is always written with mode 0600. A change keeps comments,
order and keys this version does not know: the new value is spliced into the text where the old one stood. Only a
file in a shape where that does not work (one flow mapping, anchors) is written anew.
"""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks import atomic_file, file_lock
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


def change(path: Path, changes: Mapping[str, Any]) -> None:
    """Set keys (None: remove), all at once and with mode 0600; other processes may change others meanwhile.

    Raises ConfigError when the file is not YAML or cannot be written.
    """
    _locked_edit(path, lambda _values: changes)


def ensure(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """The value of `key`, made and written at the first call. Of several processes at once, one makes it."""
    return _locked_edit(path, lambda values: {} if values.get(key) else {key: make()})[key]


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
    line = "" if value is None else _dump({key: value}).rstrip("\n")
    for name, node in _top_level(text):
        if name.value == key:
            start = name.start_mark.index
            before, after = text[:start], text[_end_of(text, start, node.end_mark.index) :]
            return before + line + after if line else before + after.partition("\n")[2]
    if not line:
        return text
    return text + ("" if not text or text.endswith("\n") else "\n") + line + "\n"


def _end_of(text: str, start: int, end: int) -> int:
    """Where an entry's own text ends: a block's end as YAML has it takes in the comments before the next key."""
    lines = text[start:end].split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].startswith("#")):
        lines.pop()
    return start + len("\n".join(lines))


def _top_level(text: str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode) and not root.flow_style:
        yield from root.value


def _dump(values: Values) -> str:
    """YAML that reads back as `values`: readable where PyYAML gets it right, escaped where it does not (U+0085)."""
    if not values:
        return ""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with contextlib.suppress(yaml.YAMLError):
        if yaml.safe_load(text) == values:
            return text
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=False)


def _locked_edit(path: Path, edit: Callable[[Values], Mapping[str, Any]]) -> Values:
    """What the file says after the edit."""
    try:
        with file_lock.held(path.with_name(f".{path.name}.lock"), _LOCK_TIMEOUT_S):
            before = text = _text(path)
            for key, value in edit(_parse(text, path)).items():
                text = spliced(text, key, value)
            if text != before:
                atomic_file.write(path, text)
            return _parse(text, path)
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
