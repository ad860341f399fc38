"""What an API key may do. Pure."""

from __future__ import annotations

import datetime as dt
import re
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from tasks import settings_values
from tasks.contract import Frozen
from tasks.errors import BadRequestError

MAX_NAME_CHARS = 100
_SPAN = re.compile(r"(\d{1,6})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Scope(Frozen):
    """`models`: ids or patterns (`qwen3:*`), none = all. `rate`: requests a minute. `expires`: seconds since 1970.

    `labels` are for people and bills; nothing here reads them. `only_on`: its requests run on workers that carry all
    of these labels (`PENDRA_LABELS`) and nowhere else.
    """

    models: tuple[Text, ...] = Field(default=(), max_length=100)
    rate: float | None = Field(default=None, gt=0, le=1_000_000, allow_inf_nan=False)
    expires: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    labels: tuple[Text, ...] = Field(default=(), max_length=20)
    only_on: tuple[str, ...] = Field(default=(), max_length=20)

    @field_validator("only_on", mode="before")
    @classmethod
    def _worker_labels(cls, value: object) -> tuple[str, ...]:
        return settings_values.labels(value)

    def covers(self, model: str) -> bool:
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)

    def expired(self, now: float) -> bool:
        return self.expires is not None and now >= self.expires


class NewKey(Scope):
    """The body of a request for a new key."""

    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    admin: bool = False

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable() or not name.strip():
            raise ValueError("it must be printable text")
        return name.strip()

    @property
    def scope(self) -> Scope:
        return Scope(**{name: getattr(self, name) for name in Scope.model_fields})


def new_key_of(body: dict[str, object]) -> NewKey:
    """Raises BadRequestError naming the field, never quoting it."""
    unknown = sorted(body.keys() - NewKey.model_fields.keys())
    if unknown:
        raise BadRequestError(f"there is no field '{unknown[0][:MAX_NAME_CHARS]}'", param=unknown[0][:MAX_NAME_CHARS])
    try:
        return NewKey.model_validate(body)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BadRequestError(f"'{where}': {first['msg']}", param=where) from None


def expiry(text: str, now: float) -> float:
    """`90d`, `12h`, or a date like 2027-01-31 (its start, in UTC), as seconds since the epoch.

    Raises BadRequestError, also for what lies behind us.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    at = now + int(found[1]) * _SECONDS[found[2]] if found else _date(text.strip())
    if at <= now:
        raise BadRequestError(f"the key would expire at {text}, which is over", param="expires")
    return at


def _date(text: str) -> float:
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadRequestError(
            f"{text!r} is no time: give a span (90d, 12h, 30m) or a date (2027-01-31)", param="expires"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
