"""What a check says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Level(StrEnum):
    OK = "ok"
    SKIPPED = "skipped"  # nothing to look at on this host
    WARNING = "warning"  # it works, but somebody should know
    FAILED = "failed"


class Verdict(BaseModel):
    """`found` is a sentence for an operator; `fix` says what to do about a warning or a failure ("" = nothing)."""

    model_config = ConfigDict(frozen=True)

    check: str
    level: Level
    found: str
    fix: str = ""


def ok(check: str, found: str) -> Verdict:
    return Verdict(check=check, level=Level.OK, found=found)


def skipped(check: str, found: str) -> Verdict:
    return Verdict(check=check, level=Level.SKIPPED, found=found)


def warning(check: str, found: str, fix: str) -> Verdict:
    return Verdict(check=check, level=Level.WARNING, found=found, fix=fix)


def failed(check: str, found: str, fix: str) -> Verdict:
    return Verdict(check=check, level=Level.FAILED, found=found, fix=fix)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """1 when anything failed; warnings do not count."""
    return int(any(verdict.level is Level.FAILED for verdict in verdicts))
