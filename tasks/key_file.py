"""A file of secret keys: base64, one a line, the one in use first; mode 0600. Written whole or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks import atomic_file, settings_file
from tasks.errors import ConfigError
from tasks.logs import event

_LOG = logging.getLogger("pendra.settings")


def read(path: Path) -> tuple[str, ...] | None:
    """The keys in the file, None when there is no file. A file open to others is warned about.

    Raises ConfigError when it cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the key file {path} cannot be read ({type(exc).__name__})") from None
    if settings_file.is_open_to_others(path):
        event(_LOG, logging.WARNING, "settings.file_mode", path=path, hint=f"chmod 600 {path}")
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise ConfigError(f"the key file {path} is empty; remove it and a new key can be made")
    return keys


def ensure(path: Path, make: Callable[[], str]) -> bool:
    """Make the file unless it is there; whether it was made. Of several processes at once, one makes it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        atomic_file.write(draft, make() + "\n")
        os.link(draft, path)  # fails when the file is there, and never shows half a key
    except FileExistsError:
        return False
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
    return True


def write(path: Path, keys: Sequence[str]) -> None:
    """Replace what the file holds. Raises ConfigError."""
    try:
        atomic_file.write(path, "\n".join(keys) + "\n")
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from None
