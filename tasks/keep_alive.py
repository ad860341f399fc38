"""How long an idle model stays in memory, as Ollama writes it: seconds, or `5m`, `1h30m`, `500ms`. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

FOREVER = -1.0
ALLOWED = "seconds, or a duration like 5m or 1h30m; 0 = unload at once, -1 = never unload"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_LONGEST = 40


def seconds(value: Any) -> float:
    """Seconds from 0, or FOREVER for anything below. Raises ValueError, without the value in its words."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("it is no time")  # noqa: TRY004  # pydantic takes ValueError
    number = _duration(value.strip()) if isinstance(value, str) else _finite(value)
    return FOREVER if number < 0 else number


def optional(value: Any) -> float | None:
    """None and "" = not said."""
    return None if value is None or (isinstance(value, str) and not value.strip()) else seconds(value)


def _duration(text: str) -> float:
    if len(text) > _LONGEST:
        raise ValueError("it is no time")
    body = text.removeprefix("-")
    if _DURATION.fullmatch(body):
        total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(body))
        return -total if text.startswith("-") else total
    try:
        return _finite(float(text))
    except ValueError:
        raise ValueError("it is no time") from None


def _finite(number: float) -> float:
    try:
        made = float(number)
    except OverflowError:
        raise ValueError("it is no time") from None
    if not math.isfinite(made):
        raise ValueError("it is no time")
    return made
