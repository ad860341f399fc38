"""What people write for a setting, made into one form. Pure; each raises ValueError in words without the value."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from tasks.errors import ConfigError
from tasks.sealing import KEY_BYTES, FleetKey

OFF = "off"
OFF_WORDS = frozenset({"off", "0", "false", "none", "no"})
BACKENDS = ("pendra", "ollama", "vllm", "lmstudio", "speaches")  # the usual order of preference
LOG_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR"})
MIN_CONCURRENT, MAX_CONCURRENT = 1, 64
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ID_LONGEST = 100
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LABEL_WORDS = "up to 63 small letters, digits, `.`, `_` and `-`"
_GPU = re.compile(r"\d{1,3}|(?:GPU|MIG)-[A-Za-z0-9/-]{4,80}")
_API_KEY = re.compile(r"[!-~]{1,4096}")
_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmg]?)(?:b|b/s)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def endpoint(value: Any) -> str:
    """A backend's endpoint: `""` (find it; `auto` means that, too), `"off"`, or a URL without its last slash.

    YAML reads a bare `off`, `no` or `false` as a boolean and `0` as a number: those mean off, too.
    """
    if value is None:
        return ""
    if value is False or value == 0:
        return OFF
    text = str(value).strip()
    if text.lower() in OFF_WORDS:
        return OFF
    return "" if text.lower() in {"", "auto"} else http_url(text)


def http_url(value: Any) -> str:
    return _url(value, ("http", "https"))


def ws_url(value: Any) -> str:
    return _url(value, ("ws", "wss"))


def _url(value: Any, schemes: tuple[str, ...]) -> str:
    text = str(value).strip()
    parts = urlsplit(text)
    if parts.scheme not in schemes:
        raise ValueError(f"it does not start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname:
        raise ValueError("it names no host")
    _check_port(parts)
    return text.rstrip("/")


def model_ids(value: Any) -> tuple[str, ...] | None:
    """Model ids from JSON text, a list of ids, or a list of objects with an `id`. None and "" mean all."""
    if isinstance(value, str):
        value = from_json(value) if value.strip() else None
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise ValueError("it is not a list")  # noqa: TRY004  # pydantic takes ValueError
    if not value:
        raise ValueError("an empty list would serve nothing; leave it out to serve all models")
    return _unique([_model_id(row) for row in value])


def preload_ids(value: Any) -> tuple[str, ...]:
    """Like `model_ids`, or ids joined by commas; nothing means none."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = [part for part in (p.strip() for p in value.split(",")) if part]
    return (model_ids(value) or ()) if value else ()


def from_json(text: str) -> Any:
    """The value that the text is."""
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("it is not JSON") from None


def _model_id(row: Any) -> str:
    found = row.get("id") if isinstance(row, dict) else row
    if not isinstance(found, str) or not found.strip():
        raise ValueError("an entry is neither an id nor an object with an `id`")
    return found.strip()


def _unique(ids: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def backend_order(value: Any) -> tuple[str, ...]:
    """Backends joined by commas (or a list), the preferred first; those left out follow in the usual order."""
    rows = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    named = _unique([str(row).strip().lower() for row in rows if str(row).strip()])
    if set(named) - set(BACKENDS):
        raise ValueError("it names a backend that we do not know")
    return (*named, *(name for name in BACKENDS if name not in named))


def labels(value: Any) -> tuple[str, ...]:
    """Labels joined by commas (or a list), each once, in small letters."""
    rows = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    named = _unique([str(row).strip().lower() for row in rows if str(row).strip()])
    if not all(_LABEL.fullmatch(name) for name in named):
        raise ValueError(f"a label is {LABEL_WORDS}")
    return named


def gpu_groups(value: Any) -> tuple[tuple[str, ...], ...]:
    """`0+1,2+3`, or a list of lists: GPUs by number or UUID, those of a group serve one process. No GPU twice."""
    rows = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    groups = tuple(_gpu_group(row) for row in rows if row and str(row).strip())
    named = [gpu for group in groups for gpu in group]
    if len(named) != len(set(named)):
        raise ValueError("a GPU stands in it twice")
    return groups


def _gpu_group(row: Any) -> tuple[str, ...]:
    parts = row if isinstance(row, (list, tuple)) else str(row).split("+")
    group = tuple(str(part).strip() for part in parts)
    if not group or not all(_GPU.fullmatch(name) for name in group):
        raise ValueError("a group is GPUs joined by +, each a number or a UUID (GPU-…)")
    return group


def concurrency(value: Any) -> int | None:
    """Clamped to 1–64; None and "" mean from free memory."""
    number = optional(value)
    if number is None:
        return None
    if isinstance(number, bool):
        raise ValueError("it is not a whole number")  # noqa: TRY004  # pydantic takes ValueError
    try:
        return min(max(int(number), MIN_CONCURRENT), MAX_CONCURRENT)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("it is not a whole number") from None


def rate(value: Any) -> int | None:
    """Bytes a second, also as `500kB`, `20MB` or `1GB` (decimal); None, "" and 0 mean no limit."""
    text = str(value).strip() if value is not None else ""
    found = _RATE.fullmatch(text)
    if text and found is None:
        raise ValueError("it is not a number of bytes a second")
    number = float(found[1]) * _UNITS[found[2].lower()] if found else 0
    if 0 < number < 1:
        raise ValueError("it is less than a byte a second")
    return int(number) or None


def catalogue_url(value: Any) -> str:
    """`""`, or where a catalogue can be read: http(s):// or file:///."""
    text = str(value or "").strip()
    if text.startswith("file:///"):
        return text
    return http_url(text) if text else ""


def optional(value: Any) -> Any:
    """Text without anything in it means: not set."""
    return None if isinstance(value, str) and not value.strip() else value


def identifier(value: Any) -> str:
    """A name that can stand in a queue's, a file's and a header's name."""
    text = str(value).strip()
    if len(text) > _ID_LONGEST:
        raise ValueError(f"it is longer than {_ID_LONGEST} characters")
    if not _ID.fullmatch(text):
        raise ValueError("only letters, digits, `.`, `_` and `-` may stand in it")
    return text


def folder(value: Any) -> Path:
    text = str(value).strip()
    if not text:
        raise ValueError("it is empty")
    return Path(text).expanduser().absolute()


def redis_url(value: Any) -> str:
    text = str(value).strip()
    parts = urlsplit(text)
    if "sentinel" in parts.scheme:
        raise ValueError("Redis Sentinel is not supported: name the primary, or an address that follows it")
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("it does not start with redis://, rediss:// or unix://")
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("it names no host or socket")
    _check_port(parts)
    return text


def _check_port(parts: SplitResult) -> None:
    try:
        _ = parts.port
    except ValueError:  # its own text quotes what stands there
        raise ValueError("its port is not a number from 0 to 65535") from None


def log_level(value: Any) -> str:
    text = str(value).strip().upper()
    if text not in LOG_LEVELS:
        raise ValueError
    return text


def seed(value: Any) -> str:
    """A private key: base64 of a 32-byte Ed25519 seed. The text of the error never holds any of it."""
    text = _secret(value)
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("it is not base64; copy the key again as the console shows it") from None
    if len(raw) != KEY_BYTES:
        raise ValueError(f"it holds {len(raw)} bytes instead of {KEY_BYTES}")
    return text


def fleet_key(value: Any) -> str:
    """One fleet key, base64."""
    text = _secret(value)
    try:
        FleetKey.from_base64(text)
    except ConfigError:
        raise ValueError(f"it is not {KEY_BYTES} bytes in base64") from None
    return text


def fleet_key_list(value: Any) -> str:
    """Fleet keys joined by commas."""
    return ",".join(fleet_key(part) for part in _secret(value).split(",") if part.strip())


def api_key(value: Any) -> str:
    """A key as it can stand in an HTTP header."""
    text = _secret(value)
    if not _API_KEY.fullmatch(text):
        raise ValueError("it is empty, has a space or a letter outside ASCII in it, or is too long")
    return text


def _secret(value: Any) -> str:
    return (value.get_secret_value() if isinstance(value, SecretStr) else str(value)).strip()
