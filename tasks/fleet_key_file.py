"""The fleet key's own file, `<home>/fleet-key`: base64, mode 0600, the same on every host of a fleet."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tasks import atomic_file, settings_file
from tasks.errors import ConfigError
from tasks.logs import event
from tasks.sealing import FleetKey

_LOG = logging.getLogger("pendra.settings")
NAME = "fleet-key"


def path_in(home: Path) -> Path:
    return home / NAME


def read(path: Path) -> str:
    """The key in the file. Raises ConfigError, saying how to make one, when there is none or it is not a key."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ConfigError(
            f"no fleet key: PENDRA_FLEET_KEY is not set and {path} does not exist; `pendra setup` makes one on the "
            "first host, then copy that file to every other host of the fleet"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the fleet key in {path} cannot be read ({type(exc).__name__})") from None
    if settings_file.is_open_to_others(path):
        event(_LOG, logging.WARNING, "settings.file_mode", path=path, hint=f"chmod 600 {path}")
    try:
        FleetKey.from_base64(text)
    except ConfigError:
        raise ConfigError(f"{path} does not hold a fleet key: 32 bytes in base64 are needed") from None
    return text


def ensure(path: Path) -> bool:
    """Make a key unless the file is there; whether it was made. Of several processes at once, one makes it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        atomic_file.write(draft, FleetKey.generate().to_base64() + "\n")
        os.link(draft, path)  # fails when the file is there, and never shows half a key
    except FileExistsError:
        return False
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
    return True
