"""The fleet key's own file, `<home>/fleet-key`: base64, mode 0600, the same on every host of a fleet.

The first line is the key to seal with; during a rotation a second line is opened, too (docs/security.md).
"""

from __future__ import annotations

from pathlib import Path

from tasks import key_file
from tasks.errors import ConfigError
from tasks.sealing import FleetKey

NAME = "fleet-key"
LIVE = 2


def path_in(home: Path) -> Path:
    return home / NAME


def read(path: Path) -> tuple[str, ...]:
    """The live keys. Raises ConfigError, saying how to make one, when there is none or one is not a key."""
    lines = key_file.read(path)
    if lines is None:
        raise ConfigError(
            f"no fleet key: PENDRA_FLEET_KEY is not set and {path} does not exist; `pendra setup` makes one on the "
            "first host, and `pendra join` brings it to every other host of the fleet"
        )
    try:
        for line in lines:
            FleetKey.from_base64(line)
    except ConfigError:
        raise ConfigError(f"{path} does not hold a fleet key: 32 bytes in base64 are needed") from None
    return lines[:LIVE]


def ensure(path: Path) -> bool:
    """Make a key unless the file is there; whether it was made. Of several processes at once, one makes it."""
    return key_file.ensure(path, lambda: FleetKey.generate().to_base64())


def rotate(path: Path) -> tuple[str, ...]:
    """The next step of a rotation: first a new key is only opened, then it seals and the old one is only opened.

    Between the two every host must have the file: a host that does not know the new key yet could not open what
    others seal with it. Returns the live keys. Raises ConfigError.
    """
    keys = read(path)
    live = (keys[1], keys[0]) if len(keys) == LIVE else (keys[0], FleetKey.generate().to_base64())
    key_file.write(path, live)
    return live


def retire(path: Path) -> tuple[str, ...]:
    """End a rotation: only the key that seals stays. Returns what went."""
    keys = read(path)
    if len(keys) > 1:
        key_file.write(path, keys[:1])
    return keys[1:]
